package gemmaedge.core

import kotlin.math.exp
import kotlin.random.Random

/** temperature 0 is greedy; topK 0 and topP 1 keep every token; without a seed one is drawn. */
data class Sampling(val temperature: Double = 1.0, val topK: Int = 0, val topP: Double = 1.0, val seed: Long? = null) {
    init {
        if (!(temperature >= 0 && temperature < Double.POSITIVE_INFINITY)) {
            throw GemmaError("temperature must be 0 or more, not $temperature", "0 always takes the best token")
        }
        if (topK < 0) throw GemmaError("top-k must be 0 or more, not $topK", "0 keeps every token")
        if (!(topP > 0 && topP <= 1)) throw GemmaError("top-p must be above 0 and at most 1, not $topP", "1 keeps every token")
    }
}

/** Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014. */
class SplitMix64(seed: Long) {
    private var state = seed

    /** A double in [0, 1). */
    fun uniform(): Double {
        state += -0x61c8864680b583eb // 0x9E3779B97F4A7C15
        var z = state
        z = (z xor (z ushr 30)) * -0x40a7b892e31b1a47 // 0xBF58476D1CE4E5B9
        z = (z xor (z ushr 27)) * -0x6b2fb644ecceee15 // 0x94D049BB133111EB
        return ((z xor (z ushr 31)) ushr 11) * (1.0 / (1L shl 53))
    }
}

/** From logits to a token; FORMAT.md, "Sampling", defines every step. */
class Sampler(private val sampling: Sampling) {
    private val random = SplitMix64(sampling.seed ?: Random.nextLong())

    /** Logits (vocab,) to a token id. */
    fun choose(logits: FloatArray): Int {
        if (sampling.temperature == 0.0) return largest(logits)
        val ids = best(logits, sampling.topK)
        val running = runningSums(logits, ids)
        val threshold = random.uniform() * running.last()
        return ids[running.indexOfFirst { it > threshold }.takeIf { it >= 0 } ?: (running.size - 1)]
    }

    /** Running sums of the probabilities of the ids that top-p keeps. */
    private fun runningSums(logits: FloatArray, ids: IntArray): DoubleArray {
        val weights = DoubleArray(ids.size) { exp((logits[ids[it]].toDouble() - logits[ids[0]]) / sampling.temperature) }
        var total = 0.0
        for (weight in weights) total += weight
        var sum = 0.0
        val running = DoubleArray(ids.size) {
            sum += weights[it] / total
            sum
        }
        if (sampling.topP >= 1) return running
        val kept = ids.indices.count { running[it] - weights[it] / total < sampling.topP }
        return running.copyOf(maxOf(1, kept))
    }
}

private fun largest(logits: FloatArray): Int {
    var best = 0
    for (id in logits.indices) if (logits[id] > logits[best]) best = id
    return best
}

/** The ids of the [count] largest logits (0: all), largest first, of equals the lower id. */
fun best(logits: FloatArray, count: Int): IntArray {
    val kept = if (count in 1 until logits.size) kept(logits, count) else LongArray(logits.size) { key(logits[it], it) }
    kept.sort()
    return IntArray(kept.size) { kept[it].toInt() }
}

/** A number that sorts as the larger logit, then the lower id, comes first. */
private fun key(logit: Float, id: Int): Long {
    val bits = (logit + 0f).toRawBits() // -0 and 0 are equal
    val rising = if (bits < 0) bits.inv() else bits or Int.MIN_VALUE
    return (rising.inv().toLong() and 0xFFFFFFFFL shl 32 xor Long.MIN_VALUE) or id.toLong()
}

/** Keys of the [count] best, in a heap whose root is the worst of them. */
private fun kept(logits: FloatArray, count: Int): LongArray {
    val heap = LongArray(count) { key(logits[it], it) }
    for (at in count / 2 - 1 downTo 0) sink(heap, at)
    var edge = logits[heap[0].toInt()]
    for (id in count until logits.size) {
        if (logits[id] <= edge) continue // an equal one has the higher id
        heap[0] = key(logits[id], id)
        sink(heap, 0)
        edge = logits[heap[0].toInt()]
    }
    return heap
}

private fun sink(heap: LongArray, from: Int) {
    val moved = heap[from]
    var at = from
    while (2 * at + 1 < heap.size) {
        var child = 2 * at + 1
        if (child + 1 < heap.size && heap[child + 1] > heap[child]) child++
        if (heap[child] <= moved) break
        heap[at] = heap[child]
        at = child
    }
    heap[at] = moved
}
