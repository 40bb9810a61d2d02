package gemmaedge.core

import org.junit.Assert.assertEquals
import org.junit.Test

class AnswerReaderTest {
    @Test fun everyTokenAddsWhatItAddsInPython() {
        val bundle = Bundle.open(GoldenSet.INT4.bundle)
        val tokenizer = Tokenizer(Vocabulary.open(bundle.path(bundle.manifest.vocabulary)), bundle.manifest.generation.bos)
        for (line in GoldenSet.INT4.lines("events.jsonl")) {
            val reader = AnswerReader(tokenizer, ControlTokens(tokenizer), line.ids("prompt"))
            val said = line.ids("ids").map(reader::push) + listOf(reader.finish())
            val shown = said.map { events -> events.map { if (it is Thought) listOf("thought", it.text) else listOf("text", (it as Text).text) } }
            assertEquals(line.list("events"), shown)
            assertEquals(line.int("thought_tokens"), reader.thoughtTokens)
        }
    }
}
