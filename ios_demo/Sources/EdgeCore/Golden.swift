import Foundation

/// Golden answers: what the artifact gave when it was verified, for any machine to repeat.
///
/// Another processor rounds differently, so logits are compared with a tolerance that the exporter recorded, and a
/// token may differ only where the best two logits are closer than that.
public struct Goldens: Sendable, Equatable {
  public let tolerance: Double
  public let prompts: [Golden]

  /// Throws GemmaError if the bundle has none, or they prove nothing.
  public init(_ bundle: Bundle) throws {
    guard !bundle.manifest.golden.isEmpty else {
      throw GemmaError("\(bundle.folder.path): has no golden answers", "export the bundle again")
    }
    let path = try bundle.path(bundle.manifest.golden)
    do {
      let fields = try Fields(JSON.parse(FileReader.all(path), path.path), at: "$")
      tolerance = try fields.double("tolerance")
      prompts = try fields.each("prompts") {
        try Golden(Fields($0, at: $1), vocabulary: bundle.manifest.model.vocabSize)
      }
      if prompts.isEmpty { throw GemmaError("$.prompts: is empty", "export the bundle again") }
    } catch let error as GemmaError {
      throw GemmaError("\(path.path): golden: \(error.message)", error.hint)
    }
  }
}

/// prompt ids; ids that follow, greedy; per step the ids and values of the largest logits.
public struct Golden: Sendable, Equatable {
  public let prompt: [Int]
  public let ids: [Int]
  public let topIds: [[Int]]
  public let topLogits: [[Double]]

  init(_ fields: Fields, vocabulary: Int) throws {
    prompt = try fields.ints("prompt")
    ids = try fields.ints("ids")
    topIds = try fields.each("top_ids") { value, path in
      try Fields(.object(["step": value]), at: path).ints("step")
    }
    topLogits = try fields.each("top_logits") { value, path in
      try Fields(.object(["step": value]), at: path).doubles("step")
    }
    let whole = topIds.map(\.count) == topLogits.map(\.count) && topIds.allSatisfy { !$0.isEmpty }
    guard !prompt.isEmpty, !ids.isEmpty, topIds.count == ids.count, whole else {
      throw GemmaError("\(fields.path): lacks a prompt, a step or its logits", "export the bundle again")
    }
    let used = prompt + ids + topIds.flatMap { $0 }
    guard let bad = used.first(where: { !(0..<vocabulary).contains($0) }) else { return }
    throw GemmaError("\(fields.path): has token \(bad) of \(vocabulary)", "export the bundle again")
  }

  /// Repeat it, fed with its own ids, so that one rounding does not hide the rest.
  public func check(_ engine: any Engine, tolerance: Double) throws -> Check {
    try engine.reset()
    var logits: [Float] = []
    for start in stride(from: 0, to: prompt.count, by: engine.chunk) {
      logits = try engine.forward(Array(prompt[start..<min(start + engine.chunk, prompt.count)])).logits
    }
    var (worst, wrong) = (0.0, 0)
    for (step, token) in ids.enumerated() {
      for (id, expected) in zip(topIds[step], topLogits[step]) {
        let gap = abs(Double(logits[id]) - expected)
        worst = max(worst, gap.isFinite ? gap : .infinity)
      }
      wrong += Double(logits[best(logits, 1)[0]] - logits[token]) > 2 * tolerance ? 1 : 0
      logits = try engine.forward([token]).logits
    }
    return Check(steps: ids.count, worst: worst, tokens: wrong)
  }
}

/// worst: largest difference of a logit; tokens: steps whose most likely token differs beyond doubt.
public struct Check: Sendable, Equatable {
  public let steps: Int
  public let worst: Double
  public let tokens: Int

  public func passes(_ tolerance: Double) -> Bool { worst <= tolerance && tokens == 0 }
}
