package gemmaedge.core

import org.junit.Assert.assertEquals
import org.junit.Test

class RotaryTableTest {
    @Test fun cosinesAndSinesAreThoseOfPython() {
        val model = Bundle.open(GoldenSet.INT4.bundle).manifest.model
        val tables = model.rope.mapValues { RotaryTable(it.value, 2048) }
        for (line in GoldenSet.INT4.lines("rotary.jsonl")) {
            val table = tables.getValue(line.text("kind"))
            for (pair in 0 until table.pairs) {
                val at = line.int("position") * table.pairs + pair
                assertEquals(line.floats("cos")[pair], table.cos[at], 1e-6f)
                assertEquals(line.floats("sin")[pair], table.sin[at], 1e-6f)
            }
        }
    }
}
