import Jinja

/// The checkpoint's own template.
public struct ChatTemplate: Sendable {
  private let template: Template
  private let bosToken: String

  /// nil if the bundle has none.  Throws GemmaError for a template that can not be read.
  init?(_ bundle: Bundle, _ tokenizer: Tokenizer) throws {
    guard !bundle.manifest.chatTemplate.isEmpty else { return nil }
    let path = try bundle.path(bundle.manifest.chatTemplate)
    guard let source = String(data: try FileReader.all(path), encoding: .utf8) else {
      throw GemmaError("\(path.path): the chat template is not UTF-8", Bundle.fetchAgain)
    }
    template = try ChatTemplate.refusing { try Template(source) }
    bosToken = tokenizer.piece(tokenizer.bos)
  }

  /// Throws GemmaError if the template refuses the messages.
  public func render(_ messages: [Message], thinking: Bool) throws -> String {
    let variables = Mapping([
      ("messages", .list(messages.map { .map($0.variables) })), ("bos_token", .string(bosToken)),
      ("add_generation_prompt", .bool(true)), ("tools", Value.none), ("enable_thinking", .bool(thinking)),
    ])
    return try ChatTemplate.refusing { try template.render(variables) }
  }

  private static func refusing<T>(_ work: () throws -> T) throws -> T {
    do {
      return try work()
    } catch let error as TemplateError {
      throw GemmaError("chat template: \(error.message)", "check the roles and the content of the messages")
    }
  }
}
