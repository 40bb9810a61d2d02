package gemmaedge.core

private const val BASE = 74_000_000L // as the Python runtime has measured: an interpreter, libraries, a session that has run
private const val TEXT = 1_400L // for a token of the vocabulary, where tokenizer.json is read
private const val RECENT_ROWS = 4096L // that the Python runtime keeps for the two-stage head

/**
 * Bytes at the peak of a process that reads [context] tokens, by part; the parts are the Python runtime's, but rotary tables
 * are whole and attention holds no scores, which are in tiles.
 */
data class MemoryPlan(
    val context: Int,
    val base: Long,
    val weights: Long,
    val loading: Long,
    val rows: Long,
    val tokenizer: Long,
    val caches: Long,
    val rotary: Long,
    val growing: Long,
    val activations: Long,
    val floats: Long,
) {
    val peak get() = base + weights + rows + maxOf(loading, tokenizer + caches + rotary + growing + activations + floats)

    companion object {
        /**
         * [text]: with tokenizer.json and the ends of turns. An artifact that owns its caches has them whole from the
         * beginning. Throws [GemmaError] for a bundle without an artifact for Android.
         */
        fun of(manifest: Manifest, context: Int, text: Boolean): MemoryPlan {
            val model = manifest.model
            val artifact = manifest.artifact
            val memory = artifact.memory
            val reached = minOf(context, model.context, if (artifact.context > 0) artifact.context else model.context)
            val rows = (reached + STEP - 1) / STEP * STEP
            val owned = artifact.states.sumOf { it.bytes }
            val kept = if (text) model.caches.filter { it.kind == "sliding" }.sumOf { cacheBytes(model, it, 0) } else 0L
            return MemoryPlan(
                context = reached,
                base = BASE,
                weights = if (memory.weights > 0) memory.weights else manifest.files.getValue(artifact.weightFile).size,
                loading = memory.loading,
                rows = headRows(model),
                tokenizer = if (text) TEXT * model.vocabSize else 0,
                caches = if (owned > 0) owned else model.caches.sumOf { cacheBytes(model, it, rows) } + TURNS * kept,
                rotary = rotaryBytes(model, rows),
                growing = if (owned > 0) 0 else growing(model, rows),
                activations = activations(model, artifact, minOf(reached, artifact.functions["prefill"] ?: CHUNK)),
                floats = memory.row.toLong() * minOf(reached, memory.rows),
            )
        }

        /** The plan of an application: the compact vocabulary is mapped, and costs no memory of its own. */
        fun ofApplication(manifest: Manifest, context: Int): MemoryPlan = of(manifest, context, text = true).copy(tokenizer = 0)

        /** The most tokens, in steps of the caches, whose [plan] fits [room] bytes; 0 if none do. */
        fun longestContext(manifest: Manifest, room: Long, plan: (Int) -> MemoryPlan): Int {
            var low = 0
            var high = (manifest.model.context + STEP - 1) / STEP
            while (low < high) {
                val middle = (low + high + 1) / 2
                if (plan(middle * STEP).peak <= room) low = middle else high = middle - 1
            }
            return minOf(low * STEP, manifest.model.context)
        }
    }
}

/** The old array of a full layer, beside the new one. */
private fun growing(model: Model, rows: Int): Long =
    model.caches.filter { it.kind == "full" }.maxOfOrNull { cacheBytes(model, it, rows - STEP) / 2 } ?: 0

private fun cacheBytes(model: Model, cache: CacheSpec, rows: Int): Long {
    val held = if (cache.kind == "sliding") model.window + maxOf(CHUNK, SLACK) else rows
    return 2L * cache.valueBytes * cache.kvHeads * cache.headDim * held
}

/** Cosines and sines of every kind of layer, as many rows as the longest cache. */
private fun rotaryBytes(model: Model, rows: Int): Long {
    val sliding = if (model.caches.any { it.kind == "sliding" }) model.window + CHUNK else 0
    return model.rope.values.sumOf { 8L * maxOf(rows, sliding) * (it.headDim / 2) }
}

private fun headRows(model: Model): Long =
    if (model.rescored == 0) 0 else maxOf(RECENT_ROWS, model.rescored.toLong()) * (model.hiddenSize + 12) + 4L * model.vocabSize

/** Of a call: what the graph holds at its widest, and rows, raw and as floats. */
private fun activations(model: Model, artifact: Artifact, tokens: Int): Long {
    val rows = tokens * 6L * (model.hiddenSize + model.layers.toLong() * model.perLayerDim)
    return tokens * artifact.memory.token + rows + 16L * model.vocabSize
}
