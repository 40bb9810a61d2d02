package gemmaedge.app

import android.app.Activity
import android.app.ActivityManager
import android.content.ComponentCallbacks2
import android.content.Intent
import android.content.pm.ApplicationInfo
import android.widget.EditText
import gemmaedge.core.Engine
import gemmaedge.core.GoldenSet
import gemmaedge.core.Stop
import gemmaedge.ort.OnnxEngine
import java.io.File
import java.util.concurrent.Semaphore
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config

private const val QUESTION = "What is the capital of Norway?"

/** The real engine, but every call waits for a permit. */
private class Gated(private val engine: Engine, private val permits: Semaphore) : Engine by engine {
    override fun forward(ids: IntArray): FloatArray {
        permits.acquire()
        return engine.forward(ids)
    }
}

@RunWith(RobolectricTestRunner::class)
class ChatActivityTest {
    private val state get() = app.chat.state
    private val permits = Semaphore(1_000_000)
    private val controller by lazy { Robolectric.buildActivity(ChatActivity::class.java).setup() }
    private val screen get() = controller.get()

    private val openAsShipped = app.openEngine

    @Before fun oneThreadAndMuchMemory() {
        memory(8_000_000_000)
        app.openEngine = { Gated(OnnxEngine.open(it, 1), permits) }
    }

    @After fun stopWorker() {
        app.chat.stop()
        permits.release(1_000_000)
        app.worker.shutdown()
    }

    private fun memory(free: Long) {
        val info = ActivityManager.MemoryInfo().apply {
            availMem = free
            totalMem = 8_000_000_000
        }
        shadowOf(app.getSystemService(ActivityManager::class.java)).setMemoryInfo(info)
    }

    private fun loaded() {
        app.chat.load(GoldenSet.INT4.bundle)
        until("the model") { state.phase == Phase.READY }
    }

    private fun send(message: String) {
        screen.findViewById<EditText>(R.id.input).setText(message)
        main.idle()
        screen.press(R.id.send)
    }

    private fun ask(message: String) {
        send(message)
        until("the answer") { state.phase != Phase.ANSWERING }
        assertEquals(Phase.READY, state.phase)
    }

    /** Import through the system's picker, on the model's page. */
    private fun import(folder: File): ModelActivity {
        val page = Robolectric.buildActivity(ModelActivity::class.java).setup().get()
        page.press(R.id.import_model)
        val request = shadowOf(page).nextStartedActivityForResult.intent
        assertEquals(Intent.ACTION_OPEN_DOCUMENT_TREE, request.action)
        shadowOf(page).receiveResult(request, Activity.RESULT_OK, Intent().setData(FolderProvider.share(folder)))
        until("the import") { !state.busy }
        return page
    }

    private fun importsAndAnswers(name: String) {
        assertFalse(screen.findViewById<android.view.View>(R.id.send).isEnabled)
        screen.screenshot("$name-1-empty")
        val page = import(GoldenSet.INT4.bundle)
        assertEquals(Phase.READY, state.phase)
        assertTrue(File(app.imported, "bundle.json").isFile)
        page.screenshot("$name-2-model")
        assertEquals(emptyList<String>(), clipped(page.window.decorView))
        ask(QUESTION)
        assertTrue(state.turns.last().text, state.turns.last().text.isNotBlank())
        assertTrue(screen.text(R.id.status), Regex("\\d+ tokens · .* tokens/s · first after .* s · [1-9][\\d,]* MB").matches(screen.text(R.id.status)))
        ask("And of Peru?")
        assertTrue(state.end!!.reused > 0)
        screen.screenshot("$name-3-answers")
        assertEquals(emptyList<String>(), clipped(screen.window.decorView))
    }

    @Test fun importsAFolderAndAnswers() = importsAndAnswers("light")

    @Config(qualifiers = "+night")
    @Test fun importsAFolderAndAnswersInTheDark() = importsAndAnswers("dark")

    @Test fun importsAFolderAndAnswersInLargeLetters() {
        RuntimeEnvironment.setFontScale(1.6f)
        importsAndAnswers("large")
    }

    @Config(qualifiers = "+w891dp-h411dp-land")
    @Test fun importsAFolderAndAnswersInLandscape() = importsAndAnswers("land")

    @Test fun aThoughtIsShownApart() {
        loaded()
        screen.findViewById<android.widget.CheckBox>(R.id.think).isChecked = true
        ask(QUESTION)
        screen.screenshot("light-thought")
        assertTrue("$state", state.turns.last().let { it.thought.isNotEmpty() || it.text.isNotEmpty() })
        assertFalse("<|channel>" in state.turns.last().text + state.turns.last().thought)
    }

    @Test fun stopEndsTheAnswerBetweenTwoTokens() {
        permits.drainPermits()
        loaded()
        send("Name many rivers of the world, please.")
        permits.release(3)
        until("some words") { state.turns.last().text.isNotEmpty() }
        assertTrue(screen.shown(R.id.stop))
        assertFalse(screen.shown(R.id.send))
        screen.screenshot("light-answering")
        screen.press(R.id.stop)
        permits.release(1)
        until("the stop") { state.phase == Phase.READY }
        assertEquals(Stop.CANCELLED, state.end!!.stop)
        assertTrue(screen.text(R.id.status), screen.text(R.id.status).startsWith("Stopped · "))
        permits.release(1_000_000)
        ask(QUESTION)
        assertTrue(state.turns.last().text.isNotBlank())
    }

    @Test fun rotationKeepsTheDraftAndTheAnswerStreaming() {
        permits.drainPermits()
        loaded()
        send(QUESTION)
        permits.release(2)
        until("a word") { state.turns.last().text.isNotEmpty() }
        val before = screen
        screen.findViewById<EditText>(R.id.input).setText("a draft")
        RuntimeEnvironment.setQualifiers("+w891dp-h411dp-land")
        controller.configurationChange().visible()
        assertTrue(before.isDestroyed)
        assertEquals("a draft", screen.text(R.id.input))
        screen.screenshot("land-draft")
        permits.release(1_000_000)
        until("the rest") { state.phase == Phase.READY }
        assertTrue(state.end!!.newTokens > 1)
    }

    @Test fun theAnswerGoesOnInTheBackground() {
        permits.drainPermits()
        loaded()
        send(QUESTION)
        controller.pause().stop()
        permits.release(1_000_000)
        until("the answer") { state.phase == Phase.READY }
        controller.restart().start().resume()
        assertTrue(screen.text(R.id.status), "tokens/s" in screen.text(R.id.status))
    }

    @Test fun lowMemoryReleasesTheModelAndTheNextMessageLoadsItAgain() {
        loaded()
        ask(QUESTION)
        val said = state.turns
        app.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_BACKGROUND)
        main.idle()
        assertEquals(Phase.RELEASED, state.phase)
        screen.screenshot("light-released")
        ask("And of Peru?")
        assertEquals(said, state.turns.take(2))
        assertEquals(4, state.turns.size)
    }

    private fun restart(debug: Boolean) {
        val flag = ApplicationInfo.FLAG_DEBUGGABLE
        app.applicationInfo.flags = app.applicationInfo.flags.let { if (debug) it or flag else it and flag.inv() }
        app.pushed = GoldenSet.INT4.bundle
        app.loadStored()
    }

    @Test fun aDebugBuildReadsAPushedBundleInPlace() {
        restart(debug = true)
        until("the model") { state.phase == Phase.READY }
        ask(QUESTION)
        assertFalse(app.imported.exists())
    }

    @Test fun aReleaseBuildLeavesAPushedBundleAlone() {
        restart(debug = false)
        main.idle()
        assertEquals(Phase.NO_MODEL, state.phase)
    }

    @Test fun aDamagedBundleIsRefusedInOneSentence() {
        val case = GoldenSet.INT4.lines("hostile.jsonl").first { it.text("name") == "flipped onnx/decoder.data" }
        val page = import(File(GoldenSet.INT4.folder, case.text("folder")))
        assertEquals(Phase.FAILED, state.phase)
        assertTrue(page.text(R.id.note), page.text(R.id.note).startsWith("onnx/decoder.data: "))
        assertFalse(app.imported.exists())
        page.screenshot("light-damaged")
    }

    /** The library itself is for phones: what is tested is that the application asks for it, and says what is missing. */
    @Test fun aBundleForExecuTorchAloneIsGivenToItsEngine() {
        app.openEngine = openAsShipped
        app.chat.load(GoldenSet.EXECUTORCH.bundle)
        until("the refusal") { state.phase == Phase.FAILED }
        assertTrue(state.error, state.error.startsWith("ExecuTorch is not in this application"))
    }

    @Test fun aBundleTooLargeIsRefusedBeforeItIsCopied() {
        memory(50_000_000)
        val page = import(GoldenSet.INT4.bundle)
        assertEquals(Phase.FAILED, state.phase)
        assertTrue(page.text(R.id.note), Regex("checkpoint needs \\d+ MB of memory, and 50 MB are free.*").matches(page.text(R.id.note)))
        assertFalse(app.imported.exists())
        page.screenshot("light-too-large")
    }
}
