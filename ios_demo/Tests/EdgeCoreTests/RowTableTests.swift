import Foundation
import Testing

@testable import EdgeCore

private struct Row: Decodable {
  let table: String
  let id: Int
  let raw: String
  let values: String
}

private func table(_ name: String) throws -> RowTable {
  let bundle = try GoldenSet.bundle()
  let entry = try #require(bundle.manifest.tables[name])
  return try RowTable(bundle.path(entry.file), multiplier: entry.multiplier)
}

@Test func rowsAreThoseOfPython() throws {
  let rows = try GoldenSet.lines("rows.jsonl", Row.self)
  #expect(Set(rows.map(\.table)) == ["tokens", "per_layer"])
  for row in rows {
    let table = try table(row.table)
    #expect(try Data(table.read(row.id)) == Data(base64Encoded: row.raw))
    #expect(try table.rows([row.id]) == GoldenSet.floats(row.values))
  }
}

@Test func anIdOutsideTheTableIsRefused() throws {
  let table = try table("tokens")
  for id in [-1, table.format.rows] { #expect(throws: GemmaError.self) { try table.rows([0, id]) } }
}

/// The example of FORMAT.md: 4 bits, two layers, a scale each.
@Test func theExampleOfTheFormatIsRead() throws {
  let fields: [UInt32] = [2, 1, 8, 2, 4, 4, 1, 16, 4096]
  var raw = Data("GEMROWS1".utf8)
  for field in fields { withUnsafeBytes(of: field.littleEndian) { raw.append(contentsOf: $0) } }
  raw.append(Data(count: RowFormat.start - raw.count))
  raw.append(contentsOf: [0xf0, 0x98, 0x5a, 0x3c, 0x00, 0x3f, 0x80, 0x3e])
  let path = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).rows")
  try raw.write(to: path)
  defer { try? FileManager.default.removeItem(at: path) }
  let table = try RowTable(path, multiplier: 8)
  #expect(try table.rows([0]) == [-32, 28, 0, 4, 4, -6, 8, -10])
  #expect(try table.rows([0], layers: 1..<2) == [4, -6, 8, -10])
}

@Test func theHashIsSHA256() {
  #expect(
    SHA256.hex(Data("abc".utf8)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
  var hash = SHA256()
  let million = [UInt8](repeating: 97, count: 1000)
  for _ in 0..<1000 { million.withUnsafeBytes { hash.update($0) } }
  #expect(SHA256.hex(hash.finish()) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
}
