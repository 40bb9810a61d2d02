/// Ids of the tokens that structure a turn; nil where a vocabulary lacks one (Gemma 3 has no channels).
public struct ControlTokens: Sendable, Equatable {
  public let channel: Int?
  public let channelEnd: Int?
  public let call: Int?
  public let callEnd: Int?
  public let turn: Int?

  public init(_ tokenizer: Tokenizer) {
    channel = tokenizer.id(of: "<|channel>")
    channelEnd = tokenizer.id(of: "<channel|>")
    call = tokenizer.id(of: "<|tool_call>")
    callEnd = tokenizer.id(of: "<tool_call|>")
    turn = tokenizer.id(of: "<|turn>")
  }

  public var canThink: Bool { channel != nil && channelEnd != nil }
}
