import Foundation

/// A bundle is a folder: opened and checked here.
///
/// Nothing in it is trusted: the manifest is guarded by `bundle.sha256`, every file is in the manifest with its size
/// and hash, and no name leaves the folder.
public struct Bundle: Sendable {
  public static let manifestName = "bundle.json"
  public static let sealName = "bundle.sha256"
  /// Larger files are mapped: their size is checked, `checkHashes` hashes them.
  public static let hashedAtOpen = 64 << 20
  static let fetchAgain = "the copy may be incomplete or damaged; fetch or export the bundle again"

  public let folder: URL
  public let manifest: Manifest

  /// Open a bundle and check it: manifest, names, sizes, and hashes of all but the large files.
  ///
  /// Throws GemmaError if it is not a bundle, damaged, of a later format, or hostile.
  public init(_ folder: URL) throws {
    self.folder = folder
    manifest = try Bundle.readManifest(folder)
    try checkNames()
    for (name, entry) in manifest.files.sorted(by: { $0.key < $1.key }) {
      try checkFile(name, entry, hashed: entry.size <= Bundle.hashedAtOpen)
    }
  }

  /// A file of the bundle.  Throws GemmaError for a name that the manifest does not list.
  public func path(_ name: String) throws -> URL {
    guard manifest.files[name] != nil else {
      throw GemmaError("\(manifestPath): '\(name)' is used but not listed in files", Bundle.fetchAgain)
    }
    return folder.appendingPathComponent(name)
  }

  /// The artifact of a target.  Throws GemmaError if the bundle has none.
  public func artifact(_ target: String) throws -> Artifact {
    guard let found = manifest.artifacts[target] else {
      let made = manifest.artifacts.keys.sorted().joined(separator: ", ")
      throw GemmaError(
        "\(folder.path): no \(target) artifact, only \(made.isEmpty ? "nothing" : made)",
        "export it again with --to \(target)")
    }
    return found
  }

  /// The hash of the manifest, which holds those of all files: 64 hex digits.
  ///
  /// Throws GemmaError if the manifest can not be read.
  public func key() throws -> String { try SHA256.hex(file: folder.appendingPathComponent(Bundle.manifestName)) }

  /// Hash every file.  Throws GemmaError at the first that differs.
  public func checkHashes(progress: (String, Int) -> Void = { _, _ in }) throws {
    for (name, entry) in manifest.files.sorted(by: { $0.key < $1.key }) {
      try checkFile(name, entry, hashed: true)
      progress(name, entry.size)
    }
  }

  /// Parts of `A-Z a-z 0-9 . _ -`, each beginning with a letter, a digit or `_`, with `/` between.
  static func isName(_ name: String) -> Bool {
    name.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).allSatisfy { part in
      guard let first = part.first, isWord(first) else { return false }
      return part.allSatisfy { isWord($0) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-") }
    }
  }

  private static func isWord(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
      true
    default: false
    }
  }

  /// The line that `sha256sum -c` reads.
  static func seal(of manifest: Data) -> Data { Data("\(SHA256.hex(manifest))  \(manifestName)\n".utf8) }

  private var manifestPath: String { folder.appendingPathComponent(Bundle.manifestName).path }

  /// Throws GemmaError unless the seal holds, the version is known, and the fields are right.
  static func readManifest(_ folder: URL) throws -> Manifest {
    let path = folder.appendingPathComponent(manifestName)
    guard isPlainFile(path) else {
      throw GemmaError("\(folder.path) is not a bundle: it has no \(manifestName)", notABundleHint(folder))
    }
    let raw = try FileReader.all(path)
    let value = try JSON.parse(raw, path.path)
    let fields = try Fields(value, at: "$")
    do {
      let version = try fields.ints("version")
      if try fields.string("format") == "gemma-edge", let major = version.first, major > Manifest.major {
        let shown = version.map(String.init).joined(separator: ".")
        throw GemmaError("format \(shown), this app reads \(Manifest.major).x", "upgrade the app")
      }
      guard let found = try? Data(contentsOf: folder.appendingPathComponent(sealName)), found == seal(of: raw) else {
        throw GemmaError("does not match \(sealName)", fetchAgain)
      }
      try JSON.checkSaidOnce(raw, value)
      return try Manifest(fields)
    } catch let error as GemmaError {
      throw GemmaError("\(path.path): \(error.message)", error.hint)
    }
  }

  private static func notABundleHint(_ folder: URL) -> String {
    if isPlainFile(folder.appendingPathComponent("config.json")) {
      return "this looks like a checkpoint; make a bundle of it with `gemma-edge export`"
    }
    return "give the folder that `gemma-edge export` wrote"
  }

  private func checkNames() throws {
    for name in manifest.files.keys.sorted() where !Bundle.isName(name) {
      throw GemmaError("\(manifestPath): '\(name)' is not a name inside the bundle", Bundle.fetchAgain)
    }
    for name in manifest.used.sorted() { _ = try path(name) }
  }

  private func checkFile(_ name: String, _ entry: File, hashed: Bool) throws {
    let file = folder.appendingPathComponent(name)
    guard staysInside(file) else {
      throw GemmaError("\(file.path): a link leads out of the bundle", "a bundle holds only plain files")
    }
    guard Bundle.isPlainFile(file), let size = Bundle.size(file) else {
      throw GemmaError("\(file.path): missing", Bundle.fetchAgain)
    }
    guard size == entry.size else {
      throw GemmaError("\(file.path) has \(size) bytes, but the manifest says \(entry.size)", Bundle.fetchAgain)
    }
    guard hashed else { return }
    let digest = try SHA256.hex(file: file)
    guard digest == entry.sha256 else {
      let shown = (digest.prefix(16), entry.sha256.prefix(16))
      throw GemmaError(
        "\(file.path) has the SHA-256 \(shown.0)…, but the manifest says \(shown.1)…", Bundle.fetchAgain)
    }
  }

  /// Whether no part of a file's path below the folder is a link.
  private func staysInside(_ file: URL) -> Bool {
    var place = file
    while place.path.count > folder.path.count {
      var found = stat()
      if lstat(place.path, &found) == 0, found.st_mode & S_IFMT == S_IFLNK { return false }
      place.deleteLastPathComponent()
    }
    return true
  }

  static func isPlainFile(_ file: URL) -> Bool {
    var found = stat()
    return stat(file.path, &found) == 0 && found.st_mode & S_IFMT == S_IFREG
  }

  static func size(_ file: URL) -> Int? {
    var found = stat()
    return stat(file.path, &found) == 0 ? Int(found.st_size) : nil
  }
}
