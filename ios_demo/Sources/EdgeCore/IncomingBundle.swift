import Foundation

/// A bundle on its way: files come into `FOLDER.part`, and the folder appears when all of them are whole.
///
/// What an interrupted import or download left is gone on with.
public struct IncomingBundle: Sendable {
  public struct Missing: Sendable, Equatable {
    public let name: String
    public let size: Int
  }

  public let folder: URL
  public let manifest: Manifest
  private let part: URL

  /// Throws GemmaError if these are not manifest and seal of a bundle, a name would lead out of the folder, or the
  /// bundle is larger than the space that is left.
  public init(_ folder: URL, manifest raw: Data, seal: Data) throws {
    (self.folder, part) = (folder, URL(fileURLWithPath: folder.path + ".part"))
    try FileManager.default.createDirectory(at: part, withIntermediateDirectories: true)
    try raw.write(to: part.appendingPathComponent(Bundle.manifestName), options: .atomic)
    try seal.write(to: part.appendingPathComponent(Bundle.sealName), options: .atomic)
    manifest = try Bundle.readManifest(part)
    let own = [Bundle.manifestName, Bundle.sealName]
    if let name = manifest.files.keys.sorted().first(where: { !Bundle.isName($0) || own.contains($0) }) {
      throw GemmaError("'\(name)' is not a name inside the bundle", Bundle.fetchAgain)
    }
    try checkSpace()
  }

  /// Bytes of all files.
  public var bytes: Int { manifest.files.values.reduce(0) { $0 + $1.size } }

  /// Bytes of files that are there, also in part.
  public var held: Int { manifest.files.map { min(size($0.key), $0.value.size) }.reduce(0, +) }

  private func checkSpace() throws {
    let found = try FileManager.default.attributesOfFileSystem(forPath: part.path)[.systemFreeSize] as? NSNumber
    guard let free = found?.intValue, bytes - held > free else { return }
    throw GemmaError(
      "the bundle takes \((bytes - held) / 1_000_000) MB more, and \(free / 1_000_000) MB are free", "free some space")
  }

  /// Where a file goes; its folder is made.
  public func place(_ name: String) throws -> URL {
    let place = part.appendingPathComponent(name)
    try FileManager.default.createDirectory(at: place.deletingLastPathComponent(), withIntermediateDirectories: true)
    return place
  }

  /// Files that are not there as a whole, by name; those that are have been hashed.
  public func missing() throws -> [Missing] {
    try manifest.files.sorted { $0.key < $1.key }.filter { try !isWhole($0.key, $0.value) }.map {
      Missing(name: $0.key, size: $0.value.size)
    }
  }

  /// Throws GemmaError, and forgets the file, unless it is what the manifest says.
  public func accept(_ name: String) throws {
    guard let entry = manifest.files[name] else {
      throw GemmaError("'\(name)' is no file of the bundle", Bundle.fetchAgain)
    }
    guard try !isWhole(name, entry) else { return }
    let size = size(name)
    try? FileManager.default.removeItem(at: part.appendingPathComponent(name))  // a second try begins again
    throw GemmaError("\(name): \(size) bytes that are not those of the manifest", Bundle.fetchAgain)
  }

  /// The bundle, in its place.  Throws GemmaError if a file is missing or differs.
  public func finish() throws -> Bundle {
    _ = try Bundle(part)
    let files = FileManager.default
    if files.fileExists(atPath: folder.path) { try files.removeItem(at: folder) }
    try files.moveItem(at: part, to: folder)
    return try Bundle(folder)
  }

  /// Forget what came so far.
  public func discard() throws { try FileManager.default.removeItem(at: part) }

  private func isWhole(_ name: String, _ entry: File) throws -> Bool {
    guard size(name) == entry.size else { return false }
    return try SHA256.hex(file: part.appendingPathComponent(name)) == entry.sha256
  }

  private func size(_ name: String) -> Int {
    let file = part.appendingPathComponent(name)
    return Bundle.isPlainFile(file) ? Bundle.size(file) ?? 0 : 0
  }
}
