import Foundation

/// Copies a bundle from a folder that is ours only for now, as the Files app gives it.
public enum BundleImporter {
  private static let piece = 4 << 20

  /// `progress` gets the bytes that are there, and of all; it throws to stop, and a later import goes on.
  ///
  /// Throws GemmaError if the folder is no bundle, or a file is missing or differs.
  public static func run(
    from source: URL, to folder: URL, progress: (Int, Int) throws -> Void = { _, _ in }
  ) throws -> Bundle {
    let incoming = try IncomingBundle(
      folder, manifest: read(source, Bundle.manifestName), seal: read(source, Bundle.sealName))
    let missing = try incoming.missing()
    var done = incoming.bytes - missing.reduce(0) { $0 + $1.size }
    for file in missing {
      try copy(source.appendingPathComponent(file.name), to: incoming.place(file.name), file) { count in
        try progress(done + count, incoming.bytes)
      }
      try incoming.accept(file.name)
      done += file.size
    }
    try progress(done, incoming.bytes)
    return try incoming.finish()
  }

  private static func read(_ source: URL, _ name: String) throws -> Data {
    let file = source.appendingPathComponent(name)
    guard Bundle.isPlainFile(file) else {
      throw GemmaError(
        "\(source.lastPathComponent) is not a bundle: it has no \(name)", "pick the folder that was exported")
    }
    return try FileReader.all(file)
  }

  /// From where an earlier copy ended.
  private static func copy(
    _ from: URL, to place: URL, _ file: IncomingBundle.Missing, progress: (Int) throws -> Void
  ) throws {
    guard Bundle.isPlainFile(from) else { throw GemmaError("\(file.name): missing", Bundle.fetchAgain) }
    var count = Bundle.size(place) ?? 0
    if count >= file.size || !FileManager.default.fileExists(atPath: place.path) {
      guard FileManager.default.createFile(atPath: place.path, contents: nil) else {
        throw GemmaError("\(place.path): can not be written", "free some space")
      }
      count = 0
    }
    let (reader, writer) = (try FileHandle(forReadingFrom: from), try FileHandle(forWritingTo: place))
    defer {
      try? reader.close()
      try? writer.close()
    }
    try reader.seek(toOffset: UInt64(count))
    try writer.seekToEnd()
    while count < file.size {
      try progress(count)
      guard let read = try reader.read(upToCount: min(piece, file.size - count)), !read.isEmpty else { return }
      try writer.write(contentsOf: read)
      count += read.count
    }
    try writer.synchronize()
  }
}
