/// What an answer may say next: no tool calls, which no one here answers, and no thought beyond its budget.
struct Steering {
  private var sampler: Sampler
  private let control: ControlTokens
  private let tokenizer: Tokenizer
  private let budget: Int?  // tokens of thoughts; nil for no limit

  init(_ sampling: Sampling, _ tokenizer: Tokenizer, _ control: ControlTokens, budget: Int?) {
    sampler = Sampler(sampling)
    (self.tokenizer, self.control, self.budget) = (tokenizer, control, budget)
  }

  /// Logits (vocab) to a token id.
  mutating func choose(_ logits: [Float], _ reader: AnswerReader) throws -> Int {
    let spent = budget.map { reader.thoughtTokens >= $0 } ?? false
    if spent, reader.part == .thought, let end = control.channelEnd {
      let rest = reader.closing
      return rest.isEmpty ? end : try tokenizer.encode(rest, bos: false)[0]
    }
    var forbidden = [control.call]
    if spent, reader.part == .text, reader.thoughts > 0 { forbidden.append(control.channel) }
    var allowed = logits
    for case let token? in forbidden where logits.indices.contains(token) { allowed[token] = -.infinity }
    return sampler.choose(allowed)
  }
}
