package gemmaedge.core

import org.junit.Assert.assertEquals
import org.junit.Test

class MemoryPlanTest {
    private val manifest = Bundle.open(GoldenSet.INT4.bundle).manifest

    @Test fun everyPartIsAsInPython() {
        for (line in GoldenSet.INT4.lines("plans.jsonl")) {
            val text = line.flag("text")
            val plan = MemoryPlan.of(manifest, line.int("asked"), text)
            val parts = mapOf(
                "base" to plan.base, "weights" to plan.weights, "loading" to plan.loading, "rows" to plan.rows,
                "tokenizer" to plan.tokenizer, "caches" to plan.caches, "tables" to plan.tables,
                "growing" to plan.growing, "activations" to plan.activations, "peak" to plan.peak,
            )
            for ((name, bytes) in parts) assertEquals("$name of ${line.int("asked")}", line.long(name), bytes)
            assertEquals(line.int("context"), plan.context)
            assertEquals(line.int("fits"), MemoryPlan.longestContext(manifest, plan.peak) { MemoryPlan.of(manifest, it, text) })
        }
    }

    @Test fun anApplicationDoesWithoutTheTokenizer() {
        val python = MemoryPlan.of(manifest, 1024, text = true)
        assertEquals(python.peak - python.tokenizer, MemoryPlan.ofApplication(manifest, 1024).peak)
    }
}
