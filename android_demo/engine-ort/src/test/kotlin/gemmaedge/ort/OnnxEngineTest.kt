package gemmaedge.ort

import gemmaedge.core.Bundle
import gemmaedge.core.End
import gemmaedge.core.Entry
import gemmaedge.core.Event
import gemmaedge.core.GemmaError
import gemmaedge.core.GoldenSet
import gemmaedge.core.Message
import gemmaedge.core.Role
import gemmaedge.core.Sampling
import gemmaedge.core.Session
import gemmaedge.core.Stop
import gemmaedge.core.Text
import gemmaedge.core.Thought
import gemmaedge.core.repeatGolden
import java.io.File
import kotlin.concurrent.thread
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Assert.fail
import org.junit.Test

private fun open(folder: File) = Bundle.open(folder).let { Session(it, OnnxEngine.open(it, 1)) }

private val HELLO = listOf(Message(Role.USER, "What is the capital of Norway?"))

class OnnxEngineTest {
    @Test fun everySessionSaysWhatItSaysInPython() {
        var tokens = 0
        for (golden in GoldenSet.FLOAT.lines("sessions.jsonl")) {
            open(GoldenSet.FLOAT.bundle).use { session -> for (turn in golden.entries("turns")) tokens += repeat(session, turn, golden.text("name")) }
        }
        println("onnxruntime: $tokens tokens of ${GoldenSet.FLOAT.lines("sessions.jsonl").size} sessions equal to Python's")
    }

    private fun repeat(session: Session, turn: Entry, name: String): Int {
        val prompt = turn.ids("prompt")
        if ("messages" in turn.values) {
            assertArrayEquals(name, prompt, session.prompt(messages(turn), turn.flag("thinking")))
        }
        val ids = ArrayList<Int>()
        val end = session.generate(prompt, turn.sampling, turn.int("max_new_tokens")) { ids += it }
        assertEquals(name, turn.ids("ids").toList(), ids)
        assertEquals(name, turn.text("stop"), end.stop.name.lowercase())
        assertEquals(name, turn.int("reused"), end.reused)
        return ids.size
    }

    private fun messages(turn: Entry) = turn.entries("messages").map { Message(Role.valueOf(it.text("role").uppercase()), it.text("content")) }

    @Test fun damagedBundlesAreRefusedWithTheSameWords() {
        val cases = GoldenSet.INT4.lines("hostile.jsonl")
        assertTrue(cases.size > 100)
        for (case in cases) {
            val folder = File(GoldenSet.INT4.folder, case.text("folder"))
            val error = refusal(folder, case.text("stage"))
            if (error == null) {
                fail("${case.text("name")} is not refused")
            } else {
                for (word in case.texts("words")) assertTrue("${case.text("name")}: $error", word in error.toString())
            }
        }
    }

    /** The error, if it comes in the stage where it should. */
    private fun refusal(folder: File, stage: String): GemmaError? {
        val bundle = try {
            Bundle.open(folder)
        } catch (error: GemmaError) {
            return error.takeIf { stage == "open" }
        }
        return try {
            if (stage == "verify") {
                OnnxEngine.open(bundle, 1).use { repeatGolden(bundle, it) }
            } else {
                Session(bundle, OnnxEngine.open(bundle, 1)).use { session ->
                    if (stage == "load") session.generate(intArrayOf(2, 5), Sampling(0.0), 1) {} else session.chat(HELLO, maxNewTokens = 1) {}
                }
            }
            null
        } catch (error: GemmaError) {
            error
        }
    }

    @Test fun theGoldenAnswersHold() {
        val bundle = Bundle.open(GoldenSet.INT4.bundle)
        val found = OnnxEngine.open(bundle, 1).use { repeatGolden(bundle, it) }
        println("onnxruntime: $found")
        assertTrue("$found", found.steps > 20 && found.passes)
    }

    @Test fun aChatIsTextAndOneEnd() = open(GoldenSet.INT4.bundle).use { session ->
        val events = ArrayList<Event>()
        val end = session.chat(HELLO, Sampling(0.0), 40, onEvent = events::add)
        assertEquals(end, events.last())
        assertEquals(1, events.count { it is End })
        assertTrue(events.filterIsInstance<Text>().joinToString("") { it.text }.isNotBlank())
        assertTrue(end.firstTokenSeconds > 0)
    }

    @Test fun aThoughtIsToldApart() = open(GoldenSet.INT4.bundle).use { session ->
        val events = ArrayList<Event>()
        session.chat(HELLO, Sampling(0.0), 60, thinking = true, onEvent = events::add)
        assertTrue(events.any { it is Thought } || events.any { it is Text })
        assertTrue(events.filterIsInstance<Text>().none { "<|channel>" in it.text })
    }

    @Test fun cancelEndsAnAnswerBetweenTwoTokensAndTheSessionGoesOn() = open(GoldenSet.INT4.bundle).use { session ->
        val ids = ArrayList<Int>()
        val end = session.generate(session.prompt(HELLO), Sampling(2.0, seed = 3), 100) {
            ids += it
            if (ids.size == 3) session.cancel()
        }
        assertEquals(Stop.CANCELLED to 3, end.stop to ids.size)
        val again = session.generate(session.prompt(HELLO), Sampling(0.0), 5) {}
        assertEquals(true, again.reused > 0 && again.newTokens > 0)
    }

    @Test fun cancelReachesARunningPrompt() = open(GoldenSet.INT4.bundle).use { session ->
        val prompt = IntArray(8000) { 10 + it % 300 }.also { it[0] = 2 }
        val long = prompt.copyOf(minOf(prompt.size, session.context))
        val canceller = thread {
            Thread.sleep(50)
            session.cancel()
        }
        val end = session.generate(long, Sampling(0.0), 1000) {}
        canceller.join()
        assertEquals(Stop.CANCELLED, end.stop)
        assertEquals(5, session.generate(intArrayOf(2, 10, 11), Sampling(0.0), 5) {}.let { if (it.stop == Stop.STOP) 5 else it.newTokens })
    }
}
