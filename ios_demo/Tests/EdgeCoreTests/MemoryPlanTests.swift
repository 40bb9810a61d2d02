import EdgeCore
import Foundation
import Testing

/// Bytes by part as Python plans them; `text` is with the ends of turns, as here.
private struct Plan: Decodable {
  let asked: Int
  let text: Bool
  let context: Int
  let weights: Int
  let loading: Int
  let caches: Int
  let growing: Int
  let floats: Int
}

@Test func whatBothHoldIsAsInPython() throws {
  let manifest = try Bundle(GoldenSet.folder.appendingPathComponent("bundle")).manifest
  let plans = try GoldenSet.lines("plans.jsonl", Plan.self).filter(\.text)
  #expect(plans.count > 5)
  for asked in plans {
    let made = try MemoryPlan(manifest, target: "onnx", context: asked.asked)
    #expect(made.context == asked.context)
    let parts: [Int] = [made.weights, made.loading, made.caches, made.growing, made.floats]
    let expected: [Int] = [asked.weights, asked.loading, asked.caches, asked.growing, asked.floats]
    #expect(parts == expected, "\(asked.asked) tokens")
  }
}

@Test func theLongestContextFitsAndTheNextDoesNot() throws {
  let manifest = try Bundle(GoldenSet.folder.appendingPathComponent("bundle")).manifest
  let room = try MemoryPlan(manifest, target: "onnx", context: 2048).peak
  #expect(try MemoryPlan.longestContext(manifest, target: "onnx", room: room) == 2048)
  #expect(try MemoryPlan.longestContext(manifest, target: "onnx", room: 1) == 0)
  try MemoryPlan.checkRoom(manifest, target: "onnx", context: 2048, room: room)
  #expect(throws: GemmaError.self) { try MemoryPlan.checkRoom(manifest, target: "onnx", context: 2049, room: room) }
}
