package gemmaedge.core

enum class Stop { STOP, LENGTH, CONTEXT, CANCELLED }

/** What a session streams: parts of an answer, then how it ended. */
sealed interface Event

data class Text(val text: String) : Event

/** More of what the model thinks before it answers. */
data class Thought(val text: String) : Event

/** Why and how an answer ended; [reused] prompt tokens were in the caches already. */
data class End(
    val stop: Stop,
    val promptTokens: Int,
    val reused: Int,
    val newTokens: Int,
    val firstTokenSeconds: Double,
    val tokensPerSecond: Double,
) : Event
