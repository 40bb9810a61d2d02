package gemmaedge.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class MemoryPlanTest {
    private val manifest = Bundle.open(GoldenSet.INT4.bundle).manifest

    @Test fun whatBothHoldIsAsInPython() {
        for (line in GoldenSet.INT4.lines("plans.jsonl")) {
            val text = line.flag("text")
            val plan = MemoryPlan.of(manifest, line.int("asked"), text)
            val parts = mapOf(
                "base" to plan.base, "weights" to plan.weights, "loading" to plan.loading, "rows" to plan.rows,
                "tokenizer" to plan.tokenizer, "caches" to plan.caches, "growing" to plan.growing,
                "activations" to plan.activations, "floats" to plan.floats,
            )
            for ((name, bytes) in parts) assertEquals("$name of ${line.int("asked")}", line.long(name), bytes)
            assertEquals(line.int("context"), plan.context)
            val fits = MemoryPlan.longestContext(manifest, plan.peak) { MemoryPlan.of(manifest, it, text) }
            if (plan.context >= CHUNK) assertTrue("$fits of ${plan.context}", fits >= plan.context)
        }
    }

    /** Python fills the rotary rows of a call, and attends without tiles; here tables are whole, and scores in tiles. */
    @Test fun thePeakHoldsTablesOfAllPositions() {
        val plan = MemoryPlan.of(manifest, 4000, text = false)
        val pairs = manifest.model.rope.values.sumOf { it.headDim / 2 }
        assertEquals(8L * 4096 * pairs, plan.rotary)
        val running = plan.caches + plan.rotary + plan.growing + plan.activations + plan.floats
        assertEquals(plan.base + plan.weights + plan.rows + maxOf(plan.loading, running), plan.peak)
    }

    @Test fun cachesThatTheEngineOwnsAreThereFromTheBeginning() {
        val owner = Bundle.open(GoldenSet.EXECUTORCH.bundle).manifest
        val (short, long) = listOf(1, 100_000).map { MemoryPlan.ofApplication(owner, it) }
        val floats = owner.artifacts.getValue("executorch").states.sumOf { it.shape.fold(1L) { all, size -> all * size } }
        assertEquals(listOf(4 * floats, 4 * floats), listOf(short.caches, long.caches))
        assertEquals(listOf(0L, owner.files.getValue("executorch/decoder.pte").size), listOf(long.growing, long.weights))
        assertEquals(owner.model.context, long.context)
    }

    @Test fun anApplicationDoesWithoutTheTokenizer() {
        val python = MemoryPlan.of(manifest, 1024, text = true)
        assertEquals(python.peak - python.tokenizer, MemoryPlan.ofApplication(manifest, 1024).peak)
    }
}
