package gemmaedge.core

/** Ids of the tokens that structure a turn; -1, which no token has, where a vocabulary lacks one. */
class ControlTokens(tokenizer: Tokenizer) {
    val channel = tokenizer.idOf("<|channel>")
    val channelEnd = tokenizer.idOf("<channel|>")
    val call = tokenizer.idOf("<|tool_call>")
    val turn = tokenizer.idOf("<|turn>")
    val canThink get() = channel >= 0 && channelEnd >= 0
}
