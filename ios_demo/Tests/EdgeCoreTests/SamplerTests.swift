import Foundation
import Testing

@testable import EdgeCore

@Test func drawsAreThoseOfPython() throws {
  let draws = try GoldenSet.lines("sampler.jsonl", JSON.self).map { try Fields($0, at: "draw") }
  #expect(draws.count > 100)
  for draw in draws {
    let sampling = try Sampling(
      temperature: draw.double("temperature"), topK: draw.int("top_k"), topP: draw.double("top_p"),
      seed: UInt64(bitPattern: Int64(draw.int("seed"))))
    var sampler = Sampler(sampling)
    let logits = try GoldenSet.floats(draw.string("logits"))
    #expect(try (0..<8).map { _ in sampler.choose(logits) } == draw.ints("ids"))
  }
}

@Test func theGeneratorIsSplitMix64() {
  var random = SplitMix64(seed: 0)
  #expect(random.next() == 0xE220_A839_7B1D_CDAF)
  #expect(random.next() == 0x6E78_9E6A_A1B9_65F4)
}

@Test func theBestAreThoseOfAFullSort() {
  var random = SplitMix64(seed: 3)
  let logits = (0..<500).map { _ in Float((random.uniform() * 20).rounded()) }
  let sorted = logits.indices.sorted { (-logits[$0], $0) < (-logits[$1], $1) }
  for count in [1, 2, 64, 499, 500] { #expect(best(logits, count) == Array(sorted[..<count])) }
  #expect(best(logits, 0) == sorted)
}

@Test func valuesOutOfRangeAreRefused() {
  #expect(throws: GemmaError.self) { try Sampling(temperature: -1) }
  #expect(throws: GemmaError.self) { try Sampling(topK: -1) }
  #expect(throws: GemmaError.self) { try Sampling(topP: 0) }
}
