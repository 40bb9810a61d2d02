public struct Message: Sendable, Equatable {
  public enum Role: String, Sendable { case system, user, assistant }
  public let role: Role
  public let content: String
  public init(role: Role, content: String) { self.role = role; self.content = content }
}
public struct ChatTemplate: Sendable {
  init?(_ bundle: Bundle) throws { return nil }
  func render(_ messages: [Message], thinking: Bool) throws -> String { throw GemmaError("later") }
}
