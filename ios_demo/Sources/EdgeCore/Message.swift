import Jinja

/// A message of a chat; a thought is what an assistant thought before it answered.
public struct Message: Sendable, Equatable {
  public enum Role: String, Sendable { case system, user, assistant }

  public let role: Role
  public let content: String
  public let thought: String

  public init(role: Role, content: String, thought: String = "") {
    (self.role, self.content, self.thought) = (role, content, thought)
  }

  /// The form that templates read.
  var variables: Mapping {
    var made = Mapping([("role", .string(role.rawValue)), ("content", .string(content))])
    if !thought.isEmpty { made["reasoning"] = .string(thought) }
    return made
  }
}
