package gemmaedge.app

import gemmaedge.core.End

enum class Phase { NO_MODEL, IMPORTING, LOADING, READY, ANSWERING, RELEASED, FAILED }

/** One bubble of a conversation; [thought] is what the model said before it answered. */
data class Turn(val fromUser: Boolean, val text: String, val thought: String = "")

/** What the screens show. [copied] of [total] bytes while a bundle is imported. */
data class ChatState(
    val phase: Phase = Phase.NO_MODEL,
    val turns: List<Turn> = emptyList(),
    val model: ModelFacts? = null,
    val end: End? = null,
    val error: String = "",
    val copied: Long = 0,
    val total: Long = 0,
) {
    val busy get() = phase == Phase.IMPORTING || phase == Phase.LOADING || phase == Phase.ANSWERING
    val canSend get() = phase == Phase.READY || phase == Phase.RELEASED
}
