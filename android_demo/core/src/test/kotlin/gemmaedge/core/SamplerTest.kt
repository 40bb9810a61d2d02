package gemmaedge.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class SamplerTest {
    @Test fun theSameTokensAreDrawnAsInPython() {
        val vectors = GoldenSet.INT4.lines("sampler.jsonl")
        assertEquals(true, vectors.size > 250)
        for (vector in vectors) {
            val sampler = Sampler(vector.sampling)
            val logits = vector.floats("logits")
            assertArrayEquals("${vector.sampling} of ${logits.size}", vector.ids("ids"), IntArray(8) { sampler.choose(logits) })
        }
    }

    @Test fun theGeneratorGivesThePublishedNumbers() {
        val random = SplitMix64(0)
        assertEquals((0xE220A8397B1DCDAFuL shr 11).toDouble() / (1L shl 53), random.uniform(), 0.0)
        assertEquals((0x6E789E6AA1B965F4uL shr 11).toDouble() / (1L shl 53), random.uniform(), 0.0)
    }

    @Test fun bestEqualsAFullSort() {
        val random = SplitMix64(9)
        val logits = FloatArray(5000) { (random.uniform() * 200).toInt() / 4f - 20 }
        val sorted = logits.indices.sortedWith(compareByDescending<Int> { logits[it] }.thenBy { it })
        for (count in listOf(1, 2, 63, 256, 4999, 5000, 6000)) {
            assertEquals(sorted.take(count), best(logits, count).toList())
        }
    }

    @Test fun aValueOutOfRangeIsRefused() {
        for (sampling in listOf<() -> Sampling>({ Sampling(-1.0) }, { Sampling(Double.NaN) }, { Sampling(1.0, -1) }, { Sampling(1.0, 0, 0.0) })) {
            assertThrows(GemmaError::class.java) { sampling() }
        }
    }
}
