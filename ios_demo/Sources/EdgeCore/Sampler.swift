import Foundation

/// temperature 0 is greedy; topK 0 and topP 1 keep every token; without a seed one is drawn.
public struct Sampling: Sendable, Equatable {
  public let temperature: Double
  public let topK: Int
  public let topP: Double
  public let seed: UInt64?

  public static let greedy = Sampling(greedy: ())

  /// Throws GemmaError for a value out of range.
  public init(temperature: Double = 1, topK: Int = 0, topP: Double = 1, seed: UInt64? = nil) throws {
    guard temperature >= 0, temperature.isFinite else {
      throw GemmaError("temperature must be 0 or more, not \(temperature)", "0 always takes the best token")
    }
    guard topK >= 0 else { throw GemmaError("top-k must be 0 or more, not \(topK)", "0 keeps every token") }
    guard topP > 0, topP <= 1 else {
      throw GemmaError("top-p must be above 0 and at most 1, not \(topP)", "1 keeps every token")
    }
    (self.temperature, self.topK, self.topP, self.seed) = (temperature, topK, topP, seed)
  }

  private init(greedy: Void) { (temperature, topK, topP, seed) = (0, 0, 1, nil) }
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
public struct SplitMix64: Sendable {
  private var state: UInt64

  public init(seed: UInt64) { state = seed }

  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A double in [0, 1).
  public mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }
}

/// From logits to a token.  Every step is defined (FORMAT.md, "Sampling"), so that Python, Kotlin and Swift draw the
/// same token from the same logits and seed.
public struct Sampler: Sendable {
  public let sampling: Sampling
  private var random: SplitMix64

  public init(_ sampling: Sampling) {
    self.sampling = sampling
    random = SplitMix64(seed: sampling.seed ?? UInt64.random(in: 0...UInt64.max))
  }

  /// Logits (vocab) to a token id.
  public mutating func choose(_ logits: [Float]) -> Int {
    if sampling.temperature == 0 { return best(logits, 1)[0] }
    let (ids, probabilities) = candidates(logits)
    let running = runningSums(probabilities)
    let threshold = random.uniform() * running[running.count - 1]
    return ids[running.firstIndex { $0 > threshold } ?? ids.count - 1]
  }

  /// Ids from the most to the least likely (ties: lower id first), and their probabilities.
  func candidates(_ logits: [Float]) -> (ids: [Int], probabilities: [Double]) {
    let ids = best(logits, sampling.topK)
    let largest = Double(logits[ids[0]])
    var probabilities = ids.map { exp((Double(logits[$0]) - largest) / sampling.temperature) }
    let sum = runningSums(probabilities).last ?? 1
    probabilities = probabilities.map { $0 / sum }
    guard sampling.topP < 1 else { return (ids, probabilities) }
    // The smallest set that reaches top-p: a token stays while those before it have not.
    let before = zip(runningSums(probabilities), probabilities).map { $0 - $1 }
    let kept = before.count { $0 < sampling.topP }
    return (Array(ids[..<kept]), Array(probabilities[..<kept]))
  }
}

/// Added up from the first on: another order rounds otherwise.
private func runningSums(_ values: [Double]) -> [Double] {
  var sum = 0.0
  return values.map { value in
    sum += value
    return sum
  }
}

/// The ids of the `count` largest logits (0: all), largest first, ties by lower id.
///
/// What is not a number counts as the least of all.
public func best(_ logits: [Float], _ count: Int) -> [Int] {
  let count = count == 0 ? logits.count : min(count, logits.count)
  func value(_ id: Int) -> Float { logits[id].isNaN ? -Float.infinity : logits[id] }
  func isWorse(_ a: Int, _ b: Int) -> Bool {
    let (x, y) = (value(a), value(b))
    return x < y || (x == y && a > b)
  }
  guard count < logits.count else { return logits.indices.sorted { isWorse($1, $0) } }
  var worstFirst = Heap(isWorse)
  for id in 0..<count { worstFirst.push(id) }
  // Ids ascend, so that one of an equal logit is worse than those that are held.
  var edge = worstFirst.first.map(value) ?? .infinity
  for id in count..<logits.count where logits[id] > edge {
    worstFirst.replaceFirst(with: id)
    edge = value(worstFirst.elements[0])
  }
  return worstFirst.elements.sorted { isWorse($1, $0) }
}
