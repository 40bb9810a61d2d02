package gemmaedge.ort

import gemmaedge.core.Bundle
import gemmaedge.core.Sampler
import gemmaedge.core.Sampling
import gemmaedge.core.repeatGolden
import java.io.File
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Test

private const val TOKENS = 16

/** A bundle of a released shape, named with -Dgemma.large=BUNDLE; left out without it. */
class LargeBundleTest {
    @Test fun itLoadsAndDecodesInASmallHeap() {
        val folder = System.getProperty("gemma.large").orEmpty()
        assumeTrue("no -Dgemma.large=BUNDLE", folder.isNotEmpty())
        val bundle = Bundle.open(File(folder))
        OnnxEngine.open(bundle, 1).use { engine ->
            val golden = repeatGolden(bundle, engine)
            val greedy = Sampler(Sampling(0.0))
            var token = greedy.choose(engine.forward(intArrayOf(2, 10, 11, 12)))
            val begun = System.nanoTime()
            repeat(TOKENS) { token = greedy.choose(engine.forward(intArrayOf(token))) }
            val rate = TOKENS * 1e9 / (System.nanoTime() - begun)
            System.gc()
            val heap = Runtime.getRuntime().let { it.totalMemory() - it.freeMemory() } / 1_000_000
            println("large bundle: %.2f tokens/s, heap %d MB, %s".format(rate, heap, golden))
            assertTrue("$golden", golden.passes)
            assertTrue("$heap MB of heap", heap < 256)
        }
    }
}
