import EdgeCore
import Foundation

/// `edge-cli rows`: random rows of a table, their hash, and the memory that reading them took.
struct RowsCommand {
  let arguments: Arguments

  init(_ arguments: Arguments) { self.arguments = arguments }

  func run() throws {
    try arguments.count(4, 4)
    let bundle = try arguments.bundle()
    guard let table = bundle.manifest.tables[arguments.words[1]] else {
      throw GemmaError("no table '\(arguments.words[1])'", "there are \(bundle.manifest.tables.keys.sorted())")
    }
    var random = try SplitMix64(seed: Arguments.number(arguments.words[2], "SEED"))
    let count: Int = try Arguments.number(arguments.words[3], "COUNT")
    let rows = try RowTable(bundle.path(table.file), multiplier: table.multiplier)
    var (hash, largest) = (SHA256(), 0)
    let start = ContinuousClock.now
    for _ in 0..<count {
      let raw = try rows.read(Int(random.uniform() * Double(rows.format.rows)))
      raw.withUnsafeBytes { hash.update($0) }
      largest = max(largest, ResidentMemory.now)
    }
    print("sha256 \(SHA256.hex(hash.finish()))")
    print("\(count) rows of \(rows.format.rowBytes) bytes in \(ContinuousClock.now - start), resident \(largest) bytes")
  }
}
