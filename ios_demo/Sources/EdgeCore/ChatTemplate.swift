import Jinja

/// The checkpoint's own template.
///
/// The texts of messages never become control tokens, unless they are trusted: then what they hold of them is read as
/// the template's.
public struct ChatTemplate: Sendable {
  private let template: Template
  private let tokenizer: Tokenizer
  private let specialTokens: [String: String]
  private let trustControlTokens: Bool
  private let written: Set<Int>  // control tokens of which the template holds the text

  /// nil if the bundle has none.  Throws GemmaError for a template that can not be read.
  init?(_ bundle: Bundle, _ tokenizer: Tokenizer, trustControlTokens: Bool = false) throws {
    guard !bundle.manifest.chatTemplate.isEmpty else { return nil }
    let path = try bundle.path(bundle.manifest.chatTemplate)
    guard let source = String(data: try FileReader.all(path), encoding: .utf8) else {
      throw GemmaError("\(path.path): the chat template is not UTF-8", Bundle.fetchAgain)
    }
    try self.init(source, tokenizer, bundle.manifest.specialTokens, trustControlTokens: trustControlTokens)
  }

  init(
    _ source: String, _ tokenizer: Tokenizer, _ specialTokens: [String: String] = [:], trustControlTokens: Bool = false
  ) throws {
    template = try ChatTemplate.refusing { try Template(source) }
    self.tokenizer = tokenizer
    self.specialTokens = ["bos_token": tokenizer.piece(tokenizer.bos)].merging(specialTokens) { _, given in given }
    self.trustControlTokens = trustControlTokens
    written = Set(tokenizer.control.within(source))
  }

  /// The ids of a conversation, ready for an answer.  Throws GemmaError if the template refuses the messages.
  public func prompt(_ messages: [Message], thinking: Bool) throws -> [Int] {
    try ChatTemplate.refusing {
      let placed = try SystemMessages { try render($0.map { hidden($0) }, thinking) }.placed(messages)
      guard !trustControlTokens else { return try tokenizer.encode(render(placed, thinking), bos: false) }
      return try tokenizer.encode(rendered: renderHidden(placed, thinking))
    }
  }
  private func render(_ messages: [Message], _ thinking: Bool) throws -> String {
    var variables = Mapping(specialTokens.sorted { $0.key < $1.key }.map { ($0, .string($1)) })
    variables["messages"] = .list(messages.map { .map($0.variables) })
    variables["add_generation_prompt"] = .bool(true)
    variables["tools"] = Value.none
    variables["enable_thinking"] = .bool(thinking)
    return try template.render(variables)
  }

  private static func refusing<T>(_ work: () throws -> T) throws -> T {
    do {
      return try work()
    } catch let error as TemplateError {
      throw GemmaError("the chat template failed: \(error.message)", "check the roles and the content of the messages")
    }
  }
}

/// Control tokens in messages.
extension ChatTemplate {
  /// The text with control tokens of messages hidden, but for those that the template takes out.
  ///
  /// They are hidden too where one of them, or one made of what is around it, would be left.
  private func renderHidden(_ messages: [Message], _ thinking: Bool) throws -> String {
    let allHidden = try render(messages.map { hidden($0) }, thinking)
    let takenOut = takenOut(of: messages)
    guard !takenOut.isEmpty else { return allHidden }
    let withoutThem = try render(messages.map { hidden($0, kept: takenOut) }, thinking)
    return tokenizer.control.within(withoutThem) == tokenizer.control.within(allHidden) ? withoutThem : allHidden
  }

  private func hidden(_ message: Message, kept: Set<Int> = []) -> Message {
    let mask = tokenizer.mask
    return Message(
      role: message.role, content: mask.hide(message.content, kept: message.role == .assistant ? kept : []),
      thought: mask.hide(message.thought))
  }

  /// Control tokens that the template takes out of what an assistant said, as it does to drop earlier thoughts.
  private func takenOut(of messages: [Message]) -> Set<Int> {
    let said = messages.filter { $0.role == .assistant }.flatMap { tokenizer.control.within($0.content) }
    return written.intersection(said).filter(takesOut)
  }

  /// Whether a token in an answer leads to no token in the text.
  private func takesOut(_ token: Int) -> Bool {
    let answer = Message(role: .assistant, content: "b\(tokenizer.piece(token))c")
    let said = [Message(role: .user, content: "a"), answer, Message(role: .user, content: "d")]
    guard let text = try? render(said, false), let hidden = try? render(said.map { hidden($0) }, false) else {
      return false  // The template refuses to be asked.
    }
    return tokenizer.control.within(text) == tokenizer.control.within(hidden)
  }
}
