#if canImport(CExecuTorch)
  import EdgeCore
  import Foundation
  import Testing

  @testable import EdgeEngines

  /// What `tests/mobile/write_executorch.py` wrote: EDGE_GOLDEN_EXECUTORCH.
  private struct Answer: Decodable {
    let prompt: [Int]
    let ids: [Int]
    let stop: String
    let logits: Data  // float32, after token 7 that follows

    var values: [Float] { logits.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) } }
  }

  private let folder = URL(fileURLWithPath: ProcessInfo.processInfo.environment["EDGE_GOLDEN_EXECUTORCH"] ?? "")

  private func answers() throws -> [Answer] {
    let raw = try Data(contentsOf: folder.appendingPathComponent("answers.jsonl"))
    return try raw.split(separator: UInt8(ascii: "\n")).map { try JSONDecoder().decode(Answer.self, from: $0) }
  }

  private func engine() throws -> ExecutorchEngine {
    try ExecutorchEngine(Bundle(folder.appendingPathComponent("bundle")))
  }

  private func read(_ ids: [Int], _ engine: ExecutorchEngine) throws -> [Float] {
    var logits: [Float] = []
    for start in stride(from: 0, to: ids.count, by: engine.chunk) {
      logits = try engine.forward(Array(ids[start..<min(start + engine.chunk, ids.count)])).logits
    }
    return logits
  }

  /// Greedy tokens, then the logits after token 7.
  private func answer(_ one: Answer, _ engine: ExecutorchEngine) throws -> (ids: [Int], last: [Float]) {
    var (ids, logits) = ([Int](), try read(one.prompt, engine))
    while ids.count < one.ids.count {
      ids.append(logits.indices.max { logits[$0] < logits[$1] }!)
      if ids.count < one.ids.count || one.stop == "stop" { logits = try engine.forward([ids.last!]).logits }
    }
    return (ids, try engine.forward([7]).logits)
  }

  @Test func aProgramAnswersAsInPython() throws {
    let (engine, answers) = (try engine(), try answers())
    #expect(answers.count == 5)
    for one in answers {
      try engine.reset()
      let found = try answer(one, engine)
      #expect(found.ids == one.ids, "\(one.prompt.count) tokens")
      let largest = one.values.map(abs).max() ?? 0
      let worst = zip(found.last, one.values).map { abs($0 - $1) }.max() ?? .infinity
      // The last bit of a cosine can move an activation to the next of its 8-bit integers.
      #expect(worst <= 5e-2 * largest, "\(one.prompt.count) tokens: \(worst) of \(largest)")
    }
  }

  @Test func aProgramGoesBack() throws {
    let (engine, one) = (try engine(), try #require(try answers().last))
    let first = try read(one.prompt, engine)
    let saved = try engine.save()
    _ = try read(Array(one.prompt.prefix(40)), engine)
    let far = try engine.forward([9]).logits
    try engine.restore(saved)
    #expect(engine.position == one.prompt.count)
    _ = try read(Array(one.prompt.prefix(40)), engine)
    #expect(try engine.forward([9]).logits == far)
    #expect(engine.rewind(to: engine.position - 5))
    #expect(!engine.rewind(to: 1))
    try engine.reset()
    #expect(try read(one.prompt, engine) == first)
  }

  @Test func slotsAreARingAndKnowWhatTheyHold() {
    var slots = Slots(rows: 6, window: 4)
    #expect(slots.take([0, 1, 2]) == [0, 1, 2])
    #expect(slots.mask([2]) == [0, 0, 0, Slots.unseen, Slots.unseen, Slots.unseen])
    #expect(slots.take([3, 4, 5, 6]) == [3, 4, 5, 0])
    #expect(slots.mask([6]) == [0, Slots.unseen, Slots.unseen, 0, 0, 0])
    #expect(slots.reaches(5) && !slots.reaches(3))
    slots.rewind(to: 5)
    #expect(slots.held == [-1, 1, 2, 3, 4, -1])
  }
#endif
