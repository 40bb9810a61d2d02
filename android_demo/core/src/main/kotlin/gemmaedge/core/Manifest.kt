package gemmaedge.core

const val MAJOR = 1

/** bundle.json: everything an application needs to know of a bundle. FORMAT.md describes each field. */
data class Manifest(
    val version: List<Int>,
    val model: Model,
    val recipe: Recipe,
    val provenance: Provenance,
    val generation: Generation,
    val tables: Map<String, Table>,
    val artifacts: Map<String, Artifact>,
    val files: Map<String, FileEntry>,
    val tokenizer: String,
    val vocabulary: String,
    val chatTemplate: String,
    val specialTokens: Map<String, String>, // texts that the template reads by these names
    val golden: String,
    val parity: String,
    val parts: Map<String, Part>, // graphs beside the decoder; since 1.1
) {
    /** Names of files that a field points to. */
    val used: Set<String>
        get() {
            val named = mutableSetOf(tokenizer, vocabulary, chatTemplate, golden, parity)
            tables.values.mapTo(named) { it.file }
            for (artifact in artifacts.values) named += setOf(artifact.file, artifact.data)
            for (part in parts.values) named += part.used
            return named - ""
        }

    /**
     * Whether the ranges of a release were dropped, as exporters did that do not say whether there are some. Only a
     * release that is stored as it is has a head of which nothing is computed again.
     */
    val lostRanges get() = recipe.name == "as-released" && model.rescored == 0 && model.staticRanges == null

    val diskBytes get() = files.values.sumOf { it.size }

    /** What an application for Android runs. Throws [GemmaError] if there is none. */
    val artifact: Artifact
        get() = artifacts["onnx"] ?: artifacts["executorch"] ?: throw GemmaError(
            "no artifact for Android, only ${artifacts.keys.joinToString().ifEmpty { "nothing" }}", "export it with --to onnx",
        )
    val flashBytes get() = tables.values.sumOf { files.getValue(it.file).size }
}

data class FileEntry(val size: Long, val sha256: String)

data class Rope(val theta: Double, val headDim: Int, val rotatedPairs: Int)

/** One layer that owns keys and values: (1, kvHeads, rows, headDim) each, of [dtype] float32 or int8. */
data class CacheSpec(val layer: Int, val kind: String, val kvHeads: Int, val headDim: Int, val dtype: String) {
    val valueBytes get() = if (dtype == "int8") 1 else 4
}

data class Model(
    val family: String,
    val layers: Int,
    val ownKvLayers: Int,
    val hiddenSize: Int,
    val vocabSize: Int,
    val perLayerDim: Int,
    val window: Int,
    val context: Int,
    val softcap: Float,
    val rescored: Int,
    val caches: List<CacheSpec>,
    val sources: List<Int>,
    val rope: Map<String, Rope>,
    val parameters: Map<String, Long>,
    val staticRanges: Boolean?, // whether linears round activations as they were trained to; null: not said
)

data class Recipe(val name: String, val summary: String)

data class Provenance(val checkpoint: String, val tool: String)

data class Generation(
    val bos: Int,
    val stop: List<Int>,
    val doSample: Boolean,
    val temperature: Double,
    val topK: Int,
    val topP: Double,
) {
    val sampling get() = Sampling(if (doSample) temperature else 0.0, topK, topP)
}

data class Table(val file: String, val multiplier: Double)

/** A size that varies is -1. */
data class TensorSpec(val name: String, val dtype: String, val shape: List<Int>) {
    val bytes get() = shape.fold(if (dtype == "int8") 1L else if (dtype == "float16") 2L else 4L) { all, size -> all * size }
}

/** Bytes that the engine of an artifact takes; zeros: not known. */
data class Memory(
    val weights: Long = 0, // resident once loaded
    val loading: Long = 0, // more, while it loads
    val token: Long = 0, // for each token of a call
    val score: Long = 0, // for each token of a call and each position that it sees
    val row: Int = 0, // for each position that a call sees, of which no more than rows count
    val rows: Int = 0,
)

/** One lowered graph: what to load, what to feed, what comes out. */
data class Artifact(
    val file: String,
    val data: String,
    val inputs: List<TensorSpec>,
    val outputs: List<TensorSpec>,
    val memory: Memory,
    val kleidiai: Boolean,
    val context: Int, // tokens, where it is less than the model's; 0: the model's
    val functions: Map<String, Int>, // tokens of a call, by name
    val states: List<TensorSpec>, // that the engine keeps between calls
) {
    val weightFile get() = data.ifEmpty { file }
}

/** Reads the fields of [at], or throws a [JsonError] that names the path. */
internal class Fields(private val values: Map<*, *>, private val at: String) {
    private fun missing(name: String): Nothing = throw JsonError("Object missing required field `$name` - at `$at`")

    private fun <T> wrong(name: String, expected: String, value: Any?): T =
        throw JsonError("Expected $expected, got ${value?.javaClass?.simpleName ?: "null"} - at `$at.$name`")

    fun raw(name: String): Any? = if (values.containsKey(name)) values[name] else missing(name)

    val names get() = values.keys.map { it.toString() }

    fun has(name: String) = values.containsKey(name)

    fun text(name: String): String = raw(name).let { it as? String ?: wrong(name, "text", it) }

    fun text(name: String, default: String) = if (has(name)) text(name) else default

    fun flag(name: String, default: Boolean) =
        if (!has(name)) default else raw(name).let { it as? Boolean ?: wrong(name, "true or false", it) }

    fun number(name: String): Double = when (val value = raw(name)) {
        is Long, is Double -> (value as Number).toDouble()
        else -> wrong(name, "a number", value)
    }

    fun number(name: String, default: Double) = if (has(name)) number(name) else default

    fun bytes(name: String): Long = raw(name).let { it as? Long ?: wrong(name, "int", it) }

    fun int(name: String, from: Int = Int.MIN_VALUE, to: Int = Int.MAX_VALUE): Int {
        val value = bytes(name)
        return if (value in from.toLong()..to.toLong()) value.toInt() else wrong(name, "int from $from to $to", value)
    }

    fun count(name: String) = int(name, 0, LARGEST)

    fun length(name: String) = int(name, 1, LARGEST)

    fun fields(name: String) = raw(name).let { if (it is Map<*, *>) Fields(it, "$at.$name") else wrong(name, "object", it) }

    fun <T> list(name: String, read: (Any?, String) -> T): List<T> {
        val values = raw(name) as? List<*> ?: wrong(name, "array", raw(name))
        return values.mapIndexed { index, value -> read(value, "$at.$name[$index]") }
    }

    fun <T> map(name: String, read: (Any?, String) -> T): Map<String, T> {
        val values = raw(name) as? Map<*, *> ?: wrong(name, "object", raw(name))
        return values.entries.associate { (key, value) -> key.toString() to read(value, "$at.$name[...]") }
    }

    companion object {
        const val LARGEST = 1 shl 24 // bounds what a hostile bundle can ask for

        fun of(value: Any?, at: String) =
            Fields(value as? Map<*, *> ?: throw JsonError("Expected `object` - at `$at`"), at)
    }
}

private fun integer(value: Any?, at: String): Int =
    (value as? Long)?.takeIf { it in Int.MIN_VALUE..Int.MAX_VALUE }?.toInt() ?: throw JsonError("Expected `int` - at `$at`")

private fun string(value: Any?, at: String): String = value as? String ?: throw JsonError("Expected `str` - at `$at`")

/** The part that is read first, so that a later format is named as such. */
internal fun readVersion(raw: Any?): Pair<String, List<Int>> =
    Fields.of(raw, "$").let { it.text("format") to it.list("version", ::integer) }

internal fun readManifest(raw: Any?): Manifest {
    val fields = Fields.of(raw, "$")
    if (fields.text("format") != "gemma-edge") throw JsonError("Invalid value ${quoted(fields.text("format"))} - at `$.format`")
    val recipe = fields.fields("recipe")
    return Manifest(
        version = fields.list("version", ::integer),
        model = model(fields.fields("model")),
        recipe = Recipe(recipe.text("name"), recipe.text("summary")),
        provenance = fields.fields("provenance").let { Provenance(it.text("checkpoint"), it.text("tool")) },
        generation = generation(fields.fields("generation")),
        tables = fields.map("tables") { value, at -> Fields.of(value, at).let { Table(it.text("file"), it.number("multiplier")) } },
        artifacts = fields.map("artifacts") { value, at -> artifact(Fields.of(value, at)) },
        files = fields.map("files") { value, at -> Fields.of(value, at).let { FileEntry(it.bytes("size"), it.text("sha256")) } },
        tokenizer = fields.text("tokenizer"),
        vocabulary = fields.text("vocabulary", ""),
        chatTemplate = fields.text("chat_template", ""),
        specialTokens = if (fields.has("special_tokens")) fields.map("special_tokens", ::string) else emptyMap(),
        golden = fields.text("golden", ""),
        parity = fields.text("parity", ""),
        parts = if (fields.has("parts")) parts(fields) else emptyMap(),
    ).also(::checkParts)
}

private fun model(fields: Fields) = Model(
    family = fields.text("family"),
    layers = fields.length("layers"),
    ownKvLayers = fields.length("own_kv_layers"),
    hiddenSize = fields.length("hidden_size"),
    vocabSize = fields.length("vocab_size"),
    perLayerDim = fields.count("per_layer_dim"),
    window = fields.length("window"),
    context = fields.length("context"),
    softcap = fields.number("softcap").toFloat(),
    rescored = fields.count("rescored"),
    caches = fields.list("caches") { value, at -> cache(Fields.of(value, at), at) },
    sources = fields.list("sources", ::integer),
    rope = fields.map("rope") { value, at ->
        Fields.of(value, at).let { Rope(it.number("theta"), it.length("head_dim"), it.count("rotated_pairs")) }
    },
    parameters = fields.map("parameters") { value, at -> value as? Long ?: throw JsonError("Expected `int` - at `$at`") },
    staticRanges = if (fields.has("static_ranges")) fields.flag("static_ranges", false) else null,
)

private fun cache(fields: Fields, at: String): CacheSpec {
    val kind = fields.text("kind")
    val dtype = fields.text("dtype")
    if (kind !in setOf("sliding", "full")) throw JsonError("Invalid value ${quoted(kind)} - at `$at.kind`")
    if (dtype !in setOf("float32", "int8")) throw JsonError("Invalid value ${quoted(dtype)} - at `$at.dtype`")
    return CacheSpec(fields.count("layer"), kind, fields.length("kv_heads"), fields.length("head_dim"), dtype)
}

private fun generation(fields: Fields) = Generation(
    bos = fields.int("bos"),
    stop = fields.list("stop", ::integer),
    doSample = fields.flag("do_sample", true),
    temperature = fields.number("temperature", 1.0),
    topK = if (fields.has("top_k")) fields.int("top_k") else 0,
    topP = fields.number("top_p", 1.0),
)

internal fun artifact(fields: Fields) = Artifact(
    file = fields.text("file"),
    data = fields.text("data"),
    inputs = fields.list("inputs") { value, at -> tensor(Fields.of(value, at)) },
    outputs = fields.list("outputs") { value, at -> tensor(Fields.of(value, at)) },
    memory = if (fields.has("memory")) memory(fields.fields("memory")) else Memory(),
    kleidiai = fields.flag("kleidiai", true),
    context = if (fields.has("context")) fields.count("context") else 0,
    functions = if (fields.has("functions")) fields.map("functions", ::integer) else emptyMap(),
    states = if (fields.has("states")) fields.list("states") { value, at -> tensor(Fields.of(value, at)) } else emptyList(),
)

private fun memory(fields: Fields): Memory {
    fun bytes(name: String) = if (fields.has(name)) fields.bytes(name) else 0L
    fun count(name: String) = if (fields.has(name)) fields.count(name) else 0
    return Memory(bytes("weights"), bytes("loading"), bytes("token"), bytes("score"), count("row"), count("rows"))
}

internal fun tensor(fields: Fields) = TensorSpec(
    fields.text("name"),
    fields.text("dtype"),
    fields.list("shape") { value, at -> if (value is String) -1 else integer(value, at) },
)
