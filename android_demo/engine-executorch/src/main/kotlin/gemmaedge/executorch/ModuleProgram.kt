package gemmaedge.executorch

import gemmaedge.core.GemmaError
import java.io.File
import java.nio.ByteBuffer
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

/**
 * ExecuTorch's own class for Android. Each of its methods has memory of its own, which nobody else sees: so prompts are
 * read by `decode`, token by token, and what a window has moved past is read again.
 */
class ModuleProgram private constructor(private val path: String, private val module: Module) : Program {
    override val shared get() = false

    override fun run(method: String, inputs: List<Input>): List<FloatArray> = said(path) {
        val values = inputs.map { EValue.from(tensor(it)) }.toTypedArray()
        module.execute(method, *values).map { it.toTensor().dataAsFloatArray }
    }

    private fun tensor(input: Input): Tensor {
        val longs = input.longs ?: return Tensor.fromBlob(input.floats!!, input.shape)
        return Tensor.fromBlob(longs, input.shape)
    }

    override fun cache(name: String): ByteBuffer = throw UnsupportedOperationException(name)

    override fun close() = module.close()

    companion object {
        fun open(file: File, threads: Int): ModuleProgram = said(file.path) {
            val module = Module.load(file.path, Module.LOAD_MODE_MMAP, threads)
            module.loadMethod("decode")
            ModuleProgram(file.path, module)
        }

        /** What ExecuTorch throws is a RuntimeException, and a library that is not there an error. */
        private fun <T> said(path: String, call: () -> T): T = try {
            call()
        } catch (failure: RuntimeException) {
            throw GemmaError("$path: ExecuTorch: ${failure.message}", "export the bundle again", failure)
        } catch (failure: LinkageError) {
            throw GemmaError("ExecuTorch is not in this application: ${failure.message}", "take a bundle with an ONNX artifact", failure)
        }
    }
}
