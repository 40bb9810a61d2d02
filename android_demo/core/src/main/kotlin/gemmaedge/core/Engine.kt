package gemmaedge.core

import java.io.Closeable

/** The running call was stopped from another thread. */
class Cancelled : Exception()

/** What [Engine.save] returns, for [Engine.restore] of the same engine. */
interface Mark {
    val position: Int
}

/** What reads tokens and answers with logits. Not for two threads at once, except [cancel]. */
interface Engine : Closeable {
    val name: String
    val position: Int

    /** The most tokens that it can hold. */
    val context: Int

    /** Forget everything read so far. */
    fun reset()

    /** Read up to [CHUNK] tokens; logits (vocab,) of the last. Throws [Cancelled] after [cancel]. */
    fun forward(ids: IntArray): FloatArray

    /** Forget what comes after [position]; false, and nothing changed, if a window has moved past it. */
    fun rewind(position: Int): Boolean

    /** What was read so far, to come back to; for this engine, until it is reset. */
    fun save(): Mark

    /** False, and nothing changed, if that is not to be had any more. */
    fun restore(mark: Mark): Boolean

    /** Stop the running call, from any thread. */
    fun cancel()

    /** Forget a [cancel] that came when no call was running. */
    fun resume()
}
