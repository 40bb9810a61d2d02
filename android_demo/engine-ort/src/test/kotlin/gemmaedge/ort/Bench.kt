package gemmaedge.ort

import gemmaedge.core.Bundle
import gemmaedge.core.Sampler
import gemmaedge.core.Sampling
import java.io.File
import kotlin.random.Random

private const val PROMPT = 32

/**
 * `Bench BUNDLE THREADS`: for each line on standard input, which is a number of tokens, reads a prompt, chooses as
 * many greedily, and prints the median milliseconds of a step and the megabytes of Java heap after a collection.
 */
fun main(arguments: Array<String>) {
    val (folder, threads) = arguments
    val bundle = Bundle.open(File(folder))
    OnnxEngine.open(bundle, threads.toInt()).use { engine ->
        println(engine.name)
        for (line in generateSequence(::readLine)) println("${step(engine, bundle.manifest.model.vocabSize, line.toInt())} ${heap()}")
    }
}

/** Median milliseconds of a step: a forward pass and the choice of a token. */
private fun step(engine: OnnxEngine, vocabulary: Int, tokens: Int): Double {
    engine.reset()
    val random = Random(0)
    val greedy = Sampler(Sampling(0.0))
    var token = greedy.choose(engine.forward(IntArray(PROMPT) { random.nextInt(vocabulary) }))
    val times = List(tokens) {
        val begun = System.nanoTime()
        token = greedy.choose(engine.forward(intArrayOf(token)))
        (System.nanoTime() - begun) / 1e6
    }
    return times.sorted()[tokens / 2]
}

private fun heap(): Long {
    System.gc()
    return Runtime.getRuntime().let { it.totalMemory() - it.freeMemory() } / 1_000_000
}
