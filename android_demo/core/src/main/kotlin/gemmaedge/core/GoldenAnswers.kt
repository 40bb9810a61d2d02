package gemmaedge.core

import kotlin.math.abs

/** [worst]: largest difference of a logit; [wrongTokens]: steps whose most likely token differs beyond doubt. */
data class GoldenCheck(val steps: Int, val worst: Float, val wrongTokens: Int, val tolerance: Float) {
    val passes get() = worst <= tolerance && wrongTokens == 0
}

private class Golden(val prompt: IntArray, val ids: IntArray, val topIds: List<IntArray>, val topLogits: List<FloatArray>) {
    val tokens get() = listOf(prompt, ids).plus(topIds).flatMap(IntArray::toList)
}

/** Repeat the golden answers of a bundle, each fed with its own ids. Throws [GemmaError] for answers that prove nothing. */
fun repeatGolden(bundle: Bundle, engine: Engine): GoldenCheck {
    val (tolerance, goldens) = readGolden(bundle)
    var worst = 0f
    var wrong = 0
    for (golden in goldens) {
        engine.reset()
        var logits = FloatArray(0)
        for (start in golden.prompt.indices step CHUNK) {
            logits = engine.forward(golden.prompt.copyOfRange(start, minOf(start + CHUNK, golden.prompt.size)))
        }
        for (step in golden.ids.indices) {
            golden.topIds[step].forEachIndexed { index, id -> worst = maxOf(worst, gap(logits[id], golden.topLogits[step][index])) }
            if (logits.max() - logits[golden.ids[step]] > 2 * tolerance) wrong++
            logits = engine.forward(intArrayOf(golden.ids[step]))
        }
    }
    engine.reset()
    return GoldenCheck(goldens.sumOf { it.ids.size }, worst, wrong, tolerance)
}

private fun gap(found: Float, expected: Float) = abs(found - expected).let { if (it.isFinite()) it else Float.POSITIVE_INFINITY }

private fun readGolden(bundle: Bundle): Pair<Float, List<Golden>> {
    val path = bundle.path(bundle.manifest.golden)
    val goldens = try {
        val fields = Fields.of(parseJson(path.readBytes()), "$")
        fields.number("tolerance").toFloat() to fields.list("prompts") { value, at -> golden(Fields.of(value, at)) }
    } catch (error: JsonError) {
        throw GemmaError("$path: ${error.message}", FETCH_AGAIN, error)
    }
    val ids = goldens.second.flatMap { it.tokens }
    if (ids.isEmpty() || ids.any { it !in 0 until bundle.manifest.model.vocabSize }) {
        throw GemmaError("$path: no golden answers, or a token of another vocabulary", EXPORT_AGAIN)
    }
    return goldens
}

private fun golden(fields: Fields): Golden {
    val ids = { value: Any?, at: String -> IntArray((value as? List<*>)?.size ?: throw JsonError("no list - at `$at`")) { token(value[it], at) } }
    val logits = { value: Any?, at: String -> FloatArray((value as? List<*>)?.size ?: throw JsonError("no list - at `$at`")) { number(value[it], at) } }
    val found = Golden(
        fields.list("prompt", ::token).toIntArray(), fields.list("ids", ::token).toIntArray(),
        fields.list("top_ids", ids), fields.list("top_logits", logits),
    )
    val widths = found.topIds.map { it.size }
    val whole = found.prompt.isNotEmpty() && found.ids.isNotEmpty() && 0 !in widths && widths.size == found.ids.size
    if (!whole || widths != found.topLogits.map { it.size }) throw JsonError("a golden without a prompt, a step or its logits")
    return found
}

private fun token(value: Any?, at: String) = (value as? Long)?.takeIf { it in 0..Int.MAX_VALUE }?.toInt() ?: throw JsonError("no token - at `$at`")

private fun number(value: Any?, at: String) = (value as? Number)?.toFloat() ?: throw JsonError("no number - at `$at`")
