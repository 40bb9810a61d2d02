package gemmaedge.executorch

import gemmaedge.core.GemmaError
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * A program in the libraries of Python's package, through program_jni.cpp. [outputs]: float32 values of each, by method.
 * Not [shared], it is used as the class of ExecuTorch for Android is.
 */
class LibraryProgram(file: File, private val outputs: Map<String, List<Int>>, override val shared: Boolean) : Program {
    private val handle: Long = said { open(file.path) }
    val calls = HashMap<String, Int>()

    override fun run(method: String, inputs: List<Input>): List<FloatArray> {
        calls.merge(method, 1, Int::plus)
        val given = inputs.map { direct(it) }
        val answers = outputs.getValue(method).map { ByteBuffer.allocateDirect(4 * it).order(ByteOrder.nativeOrder()) }
        val shapes = inputs.map { input -> IntArray(input.shape.size) { input.shape[it].toInt() } } + answers.map { intArrayOf(it.capacity() / 4) }
        val longs = BooleanArray(shapes.size) { it < inputs.size && inputs[it].longs != null }
        said { execute(handle, method, (given + answers).toTypedArray(), longs, shapes.toTypedArray(), inputs.size) }
        return answers.map { answer -> FloatArray(answer.capacity() / 4).also { answer.asFloatBuffer().get(it) } }
    }

    private fun direct(input: Input): ByteBuffer {
        val bytes = input.longs?.let { 8 * it.size } ?: (4 * input.floats!!.size)
        val buffer = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())
        input.longs?.let { buffer.asLongBuffer().put(it) } ?: buffer.asFloatBuffer().put(input.floats!!)
        return buffer
    }

    override fun cache(name: String): ByteBuffer = said { state(handle, name) }

    override fun close() = close(handle)

    private fun <T> said(call: () -> T): T = try {
        call()
    } catch (failure: RuntimeException) {
        throw GemmaError("ExecuTorch: ${failure.message}", "export the bundle again", failure)
    }

    private external fun open(path: String): Long
    private external fun execute(handle: Long, method: String, buffers: Array<ByteBuffer>, longs: BooleanArray, shapes: Array<IntArray>, inputs: Int)
    private external fun state(handle: Long, name: String): ByteBuffer
    private external fun close(handle: Long)

    companion object {
        /** Built by ci/test.sh, where there are a C++ compiler and the headers of a JDK. */
        val library: String = System.getProperty("gemma.executorch").orEmpty()

        init {
            if (library.isNotEmpty()) System.load(library)
        }
    }
}
