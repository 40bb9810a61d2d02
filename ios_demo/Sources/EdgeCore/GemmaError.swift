/// What can not be done: `message` names the thing and shows the value, `hint` offers the next step.
public struct GemmaError: Error, Equatable, Sendable, CustomStringConvertible {
  public let message: String
  public let hint: String

  public init(_ message: String, _ hint: String = "") {
    self.message = message
    self.hint = hint
  }

  public var description: String { hint.isEmpty ? message : "\(message)\nhint: \(hint)" }
}
