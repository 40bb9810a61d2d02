package gemmaedge.core

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.Base64

/** What the Python runtime does with a bundle, as tests/mobile/write_golden.py wrote it. */
class GoldenSet private constructor(name: String) {
    val folder = File(ROOT, name)
    val bundle get() = File(folder, "bundle")

    fun lines(name: String): List<Entry> = File(folder, name).readLines().map { Entry(parseJson(it) as Map<*, *>) }

    companion object {
        private val ROOT = System.getProperty("gemma.golden").orEmpty().ifEmpty { error("run with -Dgemma.golden=FOLDER, as `make test-android` does") }

        /** Of the sample with float weights: its tokens are the same whatever the version of onnxruntime. */
        val FLOAT by lazy { GoldenSet("float") }

        /** A program of three small layers for ExecuTorch, as tests/mobile/write_executorch.py wrote it. */
        val EXECUTORCH by lazy { GoldenSet("executorch") }

        /** Of the sample at int4, whose activations are rounded a little differently by other versions. */
        val INT4 by lazy { GoldenSet("int4") }
    }
}

/** A line of a golden file. */
class Entry(val values: Map<*, *>) {
    fun text(name: String) = values[name] as String
    fun int(name: String) = (values[name] as Long).toInt()
    fun long(name: String) = values[name] as Long
    fun number(name: String) = (values[name] as Number).toDouble()
    fun flag(name: String) = values[name] as Boolean
    fun list(name: String) = values[name] as List<*>
    fun texts(name: String) = list(name).map { it as String }
    fun ids(name: String) = IntArray(list(name).size) { (list(name)[it] as Long).toInt() }
    fun entries(name: String) = list(name).map { Entry(it as Map<*, *>) }
    fun bytes(name: String): ByteArray = Base64.getDecoder().decode(text(name))

    fun floats(name: String): FloatArray {
        val buffer = ByteBuffer.wrap(bytes(name)).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
        return FloatArray(buffer.remaining()).also(buffer::get)
    }

    /** A seed of 64 bits may be written without a sign. */
    val seed get() = when (val seed = values["seed"]) {
        is java.math.BigInteger -> seed.toLong()
        else -> seed as Long?
    }
    val sampling get() = Sampling(number("temperature"), int("top_k"), number("top_p"), seed)
}
