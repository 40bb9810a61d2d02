package gemmaedge.executorch

import gemmaedge.core.Bundle
import gemmaedge.core.Cancelled
import gemmaedge.core.Entry
import gemmaedge.core.GemmaError
import gemmaedge.core.GoldenSet
import java.io.File
import kotlin.math.abs
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Test

class ExecutorchEngineTest {
    private val golden = GoldenSet.EXECUTORCH
    private val bundle = Bundle.open(golden.bundle)
    private lateinit var program: LibraryProgram

    private fun open(shared: Boolean = true): ExecutorchEngine {
        assumeTrue("no C++ compiler, or no headers of a JDK", LibraryProgram.library.isNotEmpty())
        val model = bundle.manifest.model
        val outputs = mapOf("prefill" to emptyList(), "decode" to listOf(model.vocabSize, model.hiddenSize))
        return ExecutorchEngine.open(bundle) { file -> LibraryProgram(file, outputs, shared).also { program = it } }
    }

    private fun best(logits: FloatArray) = logits.indices.maxBy { logits[it] }

    /** Greedy tokens as in Python, and then the logits after token 7. */
    private fun repeat(golden: Entry, engine: ExecutorchEngine) {
        val expected = golden.ids("ids").toList()
        engine.reset()
        var logits = engine.forward(golden.ids("prompt"))
        val found = ArrayList<Int>()
        while (found.size < expected.size) {
            found += best(logits)
            if (found.size < expected.size || golden.text("stop") == "stop") logits = engine.forward(intArrayOf(found.last()))
        }
        val name = "${golden.ids("prompt").size} tokens"
        assertEquals(name, expected, found)
        val last = golden.floats("logits")
        val worst = engine.forward(intArrayOf(7)).zip(last) { one, other -> abs(one - other) }.max()
        // The last bit of a cosine can move an activation to the next of its 8-bit integers.
        assertTrue("$name: $worst", worst <= 5e-2 * last.maxOf(::abs))
    }

    @Test fun aProgramAnswersAsInPython() = open().use { engine ->
        val answers = golden.lines("answers.jsonl")
        assertEquals(5, answers.size)
        for (answer in answers) repeat(answer, engine)
        assertTrue(program.calls.getValue("prefill") > 5)
        println("ExecuTorch: ${answers.sumOf { it.ids("ids").size }} tokens of ${answers.size} prompts equal to Python's")
    }

    /** As on Android, where methods share nothing. */
    @Test fun aProgramThatSharesNothingAnswersTheSameTokenByToken() = open(shared = false).use { engine ->
        for (answer in golden.lines("answers.jsonl")) repeat(answer, engine)
        assertEquals(setOf("decode"), program.calls.keys)
    }

    @Test fun aProgramGoesBack() = open().use { engine ->
        val prompt = golden.lines("answers.jsonl").last().ids("prompt")
        val first = engine.forward(prompt)
        val saved = engine.save()
        engine.forward(prompt.copyOf(40))
        val far = engine.forward(intArrayOf(9))
        assertTrue(engine.restore(saved))
        assertEquals(prompt.size, engine.position)
        engine.forward(prompt.copyOf(40))
        assertArrayEquals(far, engine.forward(intArrayOf(9)), 0f)
        assertTrue(engine.rewind(engine.position - 5))
        assertFalse(engine.rewind(1))
        engine.reset()
        assertArrayEquals(first, engine.forward(prompt), 0f)
    }

    @Test fun whatNothingKeptIsToldAndReadAgain() = open(shared = false).use { engine ->
        val prompt = golden.lines("answers.jsonl").last().ids("prompt")
        val first = engine.forward(prompt)
        val saved = engine.save()
        engine.forward(intArrayOf(3))
        assertTrue(engine.restore(saved))
        assertEquals(prompt.size, engine.position)
        engine.forward(prompt.copyOf(60))
        assertFalse(engine.restore(saved))
        assertEquals(prompt.size + 60, engine.position)
        engine.reset()
        assertArrayEquals(first, engine.forward(prompt), 0f)
    }

    @Test fun aCallIsRefusedAfterCancelAndOverTheContext() = open().use { engine ->
        engine.cancel()
        assertThrows(Cancelled::class.java) { engine.forward(intArrayOf(2, 3)) }
        engine.resume()
        val error = assertThrows(GemmaError::class.java) { engine.forward(IntArray(engine.context + 1) { 2 }) }
        assertTrue("the context of this artifact, ${engine.context}" in error.toString())
    }

    @Test fun aDamagedProgramIsRefused() {
        open().close()
        val copy = File.createTempFile("decoder", ".pte").apply { deleteOnExit() }
        copy.writeBytes(ByteArray(4096) { 7 })
        val error = assertThrows(GemmaError::class.java) { LibraryProgram(copy, emptyMap(), true) }
        assertTrue("$error", "ExecuTorch" in error.toString())
    }

    @Test fun aBundleWithoutAProgramIsRefused() {
        val other = Bundle.open(GoldenSet.INT4.bundle)
        val error = assertThrows(GemmaError::class.java) { ExecutorchEngine.open(other) { error("not reached") } }
        assertTrue("$error", "no ExecuTorch artifact, only onnx" in error.toString())
    }

    @Test fun anApplicationWithoutTheLibrarySaysSo() {
        val error = assertThrows(GemmaError::class.java) { ExecutorchEngine.open(bundle) { ModuleProgram.open(it, 1) } }
        assertTrue("$error", "ExecuTorch is not in this application" in error.toString())
    }
}
