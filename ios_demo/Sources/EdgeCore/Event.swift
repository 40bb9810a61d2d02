/// What a session streams: the parts of an answer as they come, then one end.
public enum Event: Sendable, Equatable {
  /// A token of a raw prompt's answer, and what it adds to the text; "" while a character is incomplete.
  case token(Int, String)
  /// More of the answer.
  case text(String)
  /// More of what the model thinks before it answers.
  case thought(String)
  case end(End)
}

public enum Stop: String, Sendable {
  case stop, length, context, cancelled
}

/// Why and how an answer ended.  `reused` prompt tokens were in the caches already.
public struct End: Sendable, Equatable {
  public let stop: Stop
  public let promptTokens: Int
  public let reused: Int
  public let newTokens: Int
  public let thoughtTokens: Int
  public let firstTokenSeconds: Double
  public let prefillRate: Double  // tokens a second
  public let decodeRate: Double
}
