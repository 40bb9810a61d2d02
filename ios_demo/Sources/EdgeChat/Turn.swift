import EdgeCore

/// What one side said, as a screen shows it.
public struct Turn: Identifiable, Sendable, Equatable {
  public let id: Int
  public let role: Message.Role
  public internal(set) var text: String
  public internal(set) var thought = ""
  public internal(set) var end: End?

  var message: Message { Message(role: role, content: text, thought: thought) }

  /// "12.3 tokens/s, first after 0.4 s"; nothing while the answer comes.
  public var rates: String? {
    guard let end, end.newTokens > 1 else { return nil }
    return "\(tenths(end.decodeRate)) tokens/s, first after \(tenths(end.firstTokenSeconds)) s"
  }
}

/// With one digit behind the point.
func tenths(_ value: Double) -> String {
  let rounded = Int((value * 10).rounded())
  return "\(rounded / 10).\(rounded % 10)"
}
