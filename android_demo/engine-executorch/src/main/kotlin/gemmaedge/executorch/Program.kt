package gemmaedge.executorch

import java.io.Closeable
import java.nio.ByteBuffer

/** An argument of a method: float32 or int64 values of [shape]. */
class Input private constructor(val floats: FloatArray?, val longs: LongArray?, val shape: LongArray) {
    constructor(values: FloatArray, vararg shape: Long) : this(values, null, shape)

    constructor(values: LongArray, vararg shape: Long) : this(null, values, shape)
}

/** A program that is loaded: methods `decode` and `prefill`. */
interface Program : Closeable {
    /** Whether its methods share their caches, and [cache] gives them. If not, only one method may be used. */
    val shared: Boolean

    /** Outputs of a method, float32. Throws [gemmaedge.core.GemmaError]. */
    fun run(method: String, inputs: List<Input>): List<FloatArray>

    /** The bytes of a cache, where they lie. */
    fun cache(name: String): ByteBuffer
}
