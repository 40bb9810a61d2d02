package gemmaedge.core

import java.io.File
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class TokenizerTest {
    private val bundle = Bundle.open(GoldenSet.INT4.bundle)
    private val tokenizer = Tokenizer(Vocabulary.open(bundle.path(bundle.manifest.vocabulary)), bundle.manifest.generation.bos)

    @Test fun tenThousandLinesAreReadAsInPython() {
        val lines = GoldenSet.INT4.lines("lines.jsonl")
        assertEquals(10_000, lines.size)
        for (line in lines) {
            assertArrayEquals(lenientUtf8(line.bytes("bytes")), line.ids("ids"), tokenizer.encode(line.bytes("bytes")))
            assertEquals(line.text("decoded"), tokenizer.decode(line.ids("ids")))
        }
    }

    @Test fun aStreamGivesTheTextsThatPythonGives() {
        for (line in GoldenSet.INT4.lines("streams.jsonl")) {
            val stream = tokenizer.stream()
            assertEquals(line.texts("texts"), line.ids("ids").map(stream::push))
        }
    }

    @Test fun theStartTokenIsPutOnce() {
        val once = tokenizer.encode("hello", withBos = true)
        assertArrayEquals(once, tokenizer.encode("<bos>hello", withBos = true))
        assertEquals(2, once[0])
    }

    @Test fun halfASurrogatePairIsReplaced() =
        assertArrayEquals(tokenizer.encode("a\uFFFDb"), tokenizer.encode("a\uD83Db"))

    @Test fun bytesThatAreNoCharacterAreReplacedOneByOne() {
        val bytes = tokenizer.encode("🙂").take(2).toIntArray()
        assertEquals("\uFFFD\uFFFDx", tokenizer.decode(bytes + tokenizer.encode("x")))
    }

    @Test fun anIdOutsideTheVocabularyIsRefused() {
        val error = assertThrows(GemmaError::class.java) { tokenizer.decode(intArrayOf(1 shl 20)) }
        assertEquals("token id 1048576: the vocabulary has 4096", error.sentence)
    }

    @Test fun aFlippedBitInAnyPartIsRefusedOrReadAsSomethingElse() {
        val raw = bundle.path(bundle.manifest.vocabulary).readBytes()
        val random = SplitMix64(3)
        var refused = 0
        repeat(200) {
            val copy = raw.copyOf()
            val at = (random.uniform() * raw.size).toInt()
            copy[at] = (copy[at].toInt() xor (1 shl (random.uniform() * 8).toInt())).toByte()
            val file = File.createTempFile("vocabulary", ".bin").apply { writeBytes(copy) }
            try {
                Tokenizer(Vocabulary.open(file), 2).encode("What a day, 🙂  \n\n naïve")
            } catch (error: GemmaError) {
                refused++
            }
            file.delete()
        }
        assertEquals(true, refused > 20)
    }
}
