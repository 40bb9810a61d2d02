package gemmaedge.core

/** One entry of the decoder's own program: an ExecuTorch method. */
data class PartFunction(val name: String, val inputs: List<TensorSpec>, val outputs: List<TensorSpec>)

/**
 * A graph beside the decoder, as a vision tower or a drafter. A target runs it as an artifact of its own, or, where the
 * engine owns state that both need, as functions of the decoder's program. This application runs none.
 */
data class Part(
    val kind: String, // the contract that its inputs, outputs and settings follow
    val artifacts: Map<String, Artifact>, // by target
    val functions: Map<String, List<PartFunction>>, // of the decoder's program, by target
    val settings: Map<String, Any>, // Boolean, Long, Double, String, or a list of Long and Double
    val golden: String,
) {
    /** Names of files that a field points to. */
    val used get() = artifacts.values.flatMap { listOf(it.file, it.data) } + golden
}

private const val MOST_PARTS = 64
private const val MOST_FUNCTIONS = 64
private const val MOST_SETTINGS = 256
private const val MOST_NUMBERS = 1024
private const val LARGEST_WHOLE = 1L shl 53 // what every language reads exactly
private val WORD = Regex("[A-Za-z][A-Za-z0-9_-]{0,63}")

internal fun parts(fields: Fields): Map<String, Part> =
    words(fields, "parts", MOST_PARTS) { value, at -> part(Fields.of(value, at), at) }

private fun part(fields: Fields, at: String) = Part(
    kind = word(fields.text("kind"), "$at.kind"),
    artifacts = if (fields.has("artifacts")) fields.map("artifacts") { value, path -> artifact(Fields.of(value, path)) } else emptyMap(),
    functions = if (fields.has("functions")) functions(fields, at) else emptyMap(),
    settings = if (fields.has("settings")) words(fields, "settings", MOST_SETTINGS, ::setting) else emptyMap(),
    golden = fields.text("golden", ""),
)

private fun functions(fields: Fields, at: String): Map<String, List<PartFunction>> =
    fields.fields("functions").let { targets ->
        targets.names.associateWith { target ->
            val functions = targets.list(target) { value, path -> function(Fields.of(value, path), path) }
            functions.also { if (it.size > MOST_FUNCTIONS) throw JsonError("Expected $MOST_FUNCTIONS functions at most - at `$at.functions`") }
        }
    }

private fun function(fields: Fields, at: String) = PartFunction(
    name = word(fields.text("name"), "$at.name"),
    inputs = fields.list("inputs") { value, path -> tensor(Fields.of(value, path)) },
    outputs = fields.list("outputs") { value, path -> tensor(Fields.of(value, path)) },
)

private fun <T> words(fields: Fields, name: String, most: Int, read: (Any?, String) -> T): Map<String, T> {
    val inner = fields.fields(name)
    if (inner.names.size > most) throw JsonError("Expected $most entries at most - at `$.$name`")
    inner.names.forEach { word(it, "$.$name") }
    return fields.map(name, read)
}

private fun word(text: String, at: String): String =
    if (WORD.matches(text)) text else throw JsonError("${quoted(text.take(80))} is not a name - at `$at`")

private fun setting(value: Any?, at: String): Any = when (value) {
    is Boolean, is String -> value
    is List<*> ->
        if (value.size <= MOST_NUMBERS) value.map { number(it, at) } else throw JsonError("Expected $MOST_NUMBERS numbers at most - at `$at`")
    else -> number(value, at)
}

private fun number(value: Any?, at: String): Any = when {
    value is Double && value.isFinite() -> value
    value is Long && value in -LARGEST_WHOLE..LARGEST_WHOLE -> value
    else -> throw JsonError("Expected true, false, a number, a text or numbers in a list - at `$at`")
}

/** Each target runs a part in one way, and a function is of a program that the bundle has. Throws [JsonError]. */
internal fun checkParts(manifest: Manifest) {
    for ((name, part) in manifest.parts) {
        for ((target, functions) in part.functions) {
            val names = functions.map { it.name }
            val wrong = when {
                target !in manifest.artifacts -> "has functions (${names.joinToString()}) of ${quoted(target)}, no artifact"
                target in part.artifacts -> "has an artifact and functions of ${quoted(target)}"
                names.toSet().size < names.size -> "names a function of ${quoted(target)} twice"
                else -> continue
            }
            throw JsonError("part ${quoted(name)} $wrong")
        }
    }
}
