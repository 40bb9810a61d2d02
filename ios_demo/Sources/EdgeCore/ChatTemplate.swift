public struct Message: Sendable, Equatable {
  public let role: String
  public let content: String
}
public struct ChatTemplate: Sendable {
  init?(_ bundle: Bundle) throws { return nil }
  func render(_ messages: [Message], thinking: Bool) throws -> String { throw GemmaError("later") }
}
