import EdgeCore
import Foundation
import Testing

private let source = GoldenSet.folder.appendingPathComponent("bundle")

private func place() -> URL {
  FileManager.default.temporaryDirectory.appendingPathComponent("import-\(UUID().uuidString)/model.bundle")
}

private func refusal(_ work: () throws -> Void) throws -> GemmaError {
  do {
    try work()
  } catch let error as GemmaError {
    return error
  }
  throw GemmaError("nothing was refused")
}

@Test func aBundleIsCopiedAndOpens() throws {
  let folder = place()
  var told: [Int] = []
  let found = try BundleImporter.run(from: source, to: folder) { done, all in
    told.append(done)
    #expect(done <= all)
  }
  #expect(found.folder.path == folder.path)
  #expect(told == told.sorted() && told.last == found.manifest.files.values.reduce(0) { $0 + $1.size })
  #expect(!FileManager.default.fileExists(atPath: folder.path + ".part"))
  try found.checkHashes()
}

@Test func anInterruptedImportGoesOn() throws {
  let folder = place()
  struct Stopped: Error {}
  #expect(throws: Stopped.self) {
    try BundleImporter.run(from: source, to: folder) { done, all in if done > all / 2 { throw Stopped() } }
  }
  #expect(!FileManager.default.fileExists(atPath: folder.path))
  // A file that is there in part is gone on with.
  let bundle = try Bundle(source)
  let incoming = try IncomingBundle(
    folder, manifest: Data(contentsOf: source.appendingPathComponent("bundle.json")),
    seal: Data(contentsOf: source.appendingPathComponent("bundle.sha256")))
  let missing = try incoming.missing()
  #expect(!missing.isEmpty && missing.count < bundle.manifest.files.count)
  let name = missing[0].name
  let half = try Data(contentsOf: source.appendingPathComponent(name)).prefix(missing[0].size / 2)
  try half.write(to: incoming.place(name))
  #expect(incoming.held > half.count)
  var first: Int?
  _ = try BundleImporter.run(from: source, to: folder) { done, _ in first = first ?? done }
  #expect(try #require(first) >= half.count)
}

@Test func aDamagedFileIsRefusedAndForgotten() throws {
  let (damaged, folder) = (place(), place())
  _ = try BundleImporter.run(from: source, to: damaged)
  let name = try #require(try Bundle(source).manifest.tables["tokens"]).file
  var bytes = try Data(contentsOf: damaged.appendingPathComponent(name))
  bytes[bytes.count / 2] ^= 1
  try bytes.write(to: damaged.appendingPathComponent(name))
  let error = try refusal { _ = try BundleImporter.run(from: damaged, to: folder) }
  #expect(error.message.contains(name))
  #expect(!FileManager.default.fileExists(atPath: folder.path))
  _ = try BundleImporter.run(from: source, to: folder)  // a whole copy goes on from there
}

@Test func aFolderThatIsNoBundleIsRefused() throws {
  let empty = FileManager.default.temporaryDirectory
  let error = try refusal { _ = try BundleImporter.run(from: empty, to: place()) }
  #expect(error.message.contains("has no bundle.json"))
}

@Test func aNameOutOfTheFolderIsRefused() throws {
  let raw = try String(contentsOf: source.appendingPathComponent("bundle.json"), encoding: .utf8)
  let hostile = Data(raw.replacingOccurrences(of: "tables/tokens.rows", with: "../tokens.rows").utf8)
  let seal = Data("\(SHA256.hex(hostile))  bundle.json\n".utf8)
  let error = try refusal { _ = try IncomingBundle(place(), manifest: hostile, seal: seal) }
  #expect(error.message.contains("../tokens.rows"))
}
