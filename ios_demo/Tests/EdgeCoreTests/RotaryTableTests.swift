import Foundation
import Testing

@testable import EdgeCore

private struct Angles: Decodable {
  let kind: String
  let position: Int
  let cos: String
  let sin: String
}

@Test func cosinesAndSinesAreThoseOfPython() throws {
  let model = try GoldenSet.bundle().manifest.model
  for one in try GoldenSet.lines("rotary.jsonl", Angles.self) {
    let rope = try #require(Kind(rawValue: one.kind).flatMap { model.rope[$0] })
    let table = try RotaryTable(rope)
    try table.grow(to: one.position + 1)
    let found = table.gather([one.position])
    let gaps = zip(found.cos + found.sin, GoldenSet.floats(one.cos) + GoldenSet.floats(one.sin)).map { abs($0 - $1) }
    #expect(gaps.count == 2 * table.pairs)
    #expect(gaps.allSatisfy { $0 <= 1e-6 })
  }
}
