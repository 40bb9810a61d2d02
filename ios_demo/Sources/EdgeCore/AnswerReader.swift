/// The tokens of an answer become events: text, and thoughts apart.
///
/// `part` is where the answer is; `thoughts` counts those so far, `thoughtTokens` their tokens.
struct AnswerReader {
  static let header = "thought\n"  // the name of the channel that thoughts are in

  enum Part { case text, thought }

  private(set) var part = Part.text
  private(set) var thoughts = 0
  private(set) var thoughtTokens = 0
  private let tokenizer: Tokenizer
  private let control: ControlTokens
  private var stream: TextStream
  private var held = ""
  private var named = false
  private var hasThought = false

  /// `prompt` ends where the answer begins, which may be inside a thought.
  init(_ tokenizer: Tokenizer, _ control: ControlTokens, prompt: [Int]) {
    (self.tokenizer, self.control) = (tokenizer, control)
    stream = TextStream(tokenizer)
    guard let start = AnswerReader.openThought(prompt, control) else { return }
    enter(.thought)
    _ = think(tokenizer.decode(Array(prompt[(start + 1)...])))
  }

  /// What one more token adds.
  mutating func push(_ token: Int) -> [Event] {
    if token == control.channel { return leave(for: .thought) }
    if token == control.channelEnd { return leave(for: .text) }
    let said = stream.push(token)
    if part == .text { return said.isEmpty ? [] : [.text(said)] }
    if named { thoughtTokens += 1 }
    return think(said)
  }

  /// What is left when the answer ends here.
  mutating func finish() -> [Event] { leave(for: .text) }

  /// What a thought that ends here still wants before its end token.
  var closing: String {
    if !named { return String(AnswerReader.header.dropFirst(held.unicodeScalars.count)) }
    return held.isEmpty && hasThought ? "\n" : ""
  }

  private mutating func enter(_ part: Part) {
    self.part = part
    if part == .thought { thoughts += 1 }
    stream = TextStream(tokenizer)
    (held, named, hasThought) = ("", false, false)
  }

  /// The events that close a part; a thought's last line break belongs to its end token.
  private mutating func leave(for part: Part) -> [Event] {
    var left: [Event] = []
    if self.part == .thought {
      let rest = held.unicodeScalars.reversed().drop { $0 == "\n" }.reversed()
      if !rest.isEmpty, !rest.elementsEqual("thought".unicodeScalars) { left = [.thought(held)] }
    }
    enter(part)
    return left
  }

  /// Thoughts without the channel's name; a line break waits until more follows.
  private mutating func think(_ text: String) -> [Event] {
    held += text
    let (name, found) = (AnswerReader.header.unicodeScalars, held.unicodeScalars)
    if !named, name.starts(with: found), found.count < name.count { return [] }
    if !named {
      named = true
      if found.starts(with: name) { held.unicodeScalars.removeFirst(name.count) }
    }
    var said = held.unicodeScalars
    // By scalars: to a String a carriage return and a line break are one character.
    held = said.last == "\n" ? "\n" : ""
    if !held.isEmpty { said.removeLast() }
    hasThought = hasThought || !said.isEmpty
    return said.isEmpty ? [] : [.thought(String(said))]
  }

  /// Where the thought begins that a prompt leaves open; nil if it does not.
  private static func openThought(_ prompt: [Int], _ control: ControlTokens) -> Int? {
    for at in prompt.indices.reversed() {
      if prompt[at] == control.channel { return at }
      if prompt[at] == control.channelEnd || prompt[at] == control.turn { return nil }
    }
    return nil
  }
}
