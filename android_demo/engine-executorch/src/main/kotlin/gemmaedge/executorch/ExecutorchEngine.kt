package gemmaedge.executorch

import gemmaedge.core.Artifact
import gemmaedge.core.Bundle
import gemmaedge.core.Cancelled
import gemmaedge.core.Engine
import gemmaedge.core.Mark
import gemmaedge.core.GemmaError
import gemmaedge.core.RotaryTable
import gemmaedge.core.RowTable
import gemmaedge.core.Slots
import gemmaedge.core.openHead
import gemmaedge.core.openTables
import java.io.File
import java.nio.ByteBuffer
import java.nio.FloatBuffer

private const val FEW = 8 // tokens: as fast one by one as in a call of many

private class State(override val position: Int, val held: Map<String, IntArray>, val rings: Map<String, ByteArray>) : Mark

/** Feeds a bundle's ExecuTorch artifact, as FORMAT.md, "The ExecuTorch artifact", says. */
class ExecutorchEngine private constructor(
    bundle: Bundle,
    artifact: Artifact,
    private val program: Program,
    private val tables: Map<String, RowTable>,
) : Engine {
    private val model = bundle.manifest.model
    private val inputs = artifact.inputs
    private val chunk = artifact.functions["prefill"] ?: 0
    private val kinds = model.rope.keys
    private val rotary = HashMap<String, RotaryTable>()
    private val slots = kinds.associateWith { Slots(maxOf(rows(it), 0), if (it == "sliding") model.window else 0) }
    private val head = openHead(model, tables)

    @Volatile private var stopped = false

    override val name = "ExecuTorch"
    override val context = minOf(model.context, if (artifact.context > 0) artifact.context else model.context)
    override var position = 0
        private set

    init {
        checkFit(bundle)
    }

    /** Rows of the caches of a kind of layer. */
    private fun rows(kind: String) = inputs.find { it.name == "$kind.mask" }?.shape?.lastOrNull() ?: 0

    /** Throws [GemmaError] unless the inputs have the sizes that the manifest gives. */
    private fun checkFit(bundle: Bundle) {
        val own = model.ownKvLayers
        val widths = buildMap {
            put("inputs_embeds", model.hiddenSize)
            if (model.perLayerDim > 0) {
                put("per_layer_inputs", own * model.perLayerDim)
                put("per_layer_inputs_kept", (model.layers - own) * model.perLayerDim)
            }
            for ((kind, rope) in model.rope) for (part in listOf("cos", "sin")) put("$kind.$part", rope.headDim / 2)
        }
        val short = kinds.filter { rows(it) < if (it == "sliding") model.window + chunk - 1 else context }.map { "$it.mask" }
        val shapes = inputs.associate { it.name to it.shape }
        val fed = widths.keys + kinds.flatMap { listOf("$it.slots", "$it.mask") }
        val wrong = widths.filter { (name, width) -> width > 0 && shapes[name]?.lastOrNull() != width }.keys + short + (shapes.keys - fed)
        if (wrong.isNotEmpty() || chunk < 1) {
            val named = wrong.joinToString().ifEmpty { "prefill" }
            throw GemmaError("${bundle.folder}: $named do not have the sizes that bundle.json gives", "export the bundle again")
        }
    }

    override fun reset() {
        position = 0
        slots.values.forEach { it.rewind(0) }
    }

    override fun forward(ids: IntArray): FloatArray {
        if (position + ids.size > context) {
            throw GemmaError("${position + ids.size} tokens are more than the context of this artifact, $context", "start a new conversation")
        }
        var at = 0
        while (program.shared && ids.size - 1 - at > FEW) {
            val piece = ids.copyOfRange(at, minOf(ids.size - 1, at + chunk))
            read(piece)
            at += piece.size
        }
        while (at < ids.size - 1) step(ids[at++])
        val (logits, hidden) = step(ids.last())
        head?.rescore(logits, hidden)
        return logits
    }

    /** Keys and values of up to [chunk] tokens: the last stands in for those that are not there. */
    private fun read(ids: IntArray) {
        val padded = ids.copyOf(chunk).also { it.fill(ids.last(), ids.size) }
        val positions = IntArray(chunk) { position + minOf(it, ids.size - 1) }
        run("prefill", padded, positions)
        position += ids.size
    }

    /** Logits (vocab,) and hidden state (hidden,). */
    private fun step(id: Int): Pair<FloatArray, FloatArray> {
        val found = run("decode", intArrayOf(id), intArrayOf(position))
        if (found.map { it.size } != listOf(model.vocabSize, model.hiddenSize)) {
            throw GemmaError("ExecuTorch: decode answers ${found.map { it.size }} values", "export the bundle again")
        }
        position++
        return found[0] to found[1]
    }

    private fun run(method: String, ids: IntArray, positions: IntArray): List<FloatArray> {
        if (stopped) throw Cancelled()
        val whole = method == "decode"
        val given = fed(ids, positions)
        return program.run(method, inputs.map { it.name }.filter { whole || it != "per_layer_inputs_kept" }.map { given.getValue(it) })
    }

    private fun fed(ids: IntArray, positions: IntArray): Map<String, Input> = buildMap {
        val own = model.ownKvLayers
        embed("inputs_embeds", "tokens", ids, 0, 1)
        if (model.perLayerDim > 0) {
            embed("per_layer_inputs", "per_layer", ids, 0, own)
            embed("per_layer_inputs_kept", "per_layer", ids, own, model.layers)
        }
        for ((kind, slots) in slots) {
            val count = ids.size.toLong()
            val table = table(kind, positions.last() + 1)
            put("$kind.slots", Input(slots.take(positions), count))
            put("$kind.mask", Input(slots.mask(positions), count, slots.rows.toLong()))
            put("$kind.cos", Input(gathered(table.cos, table.pairs, positions), count, table.pairs.toLong()))
            put("$kind.sin", Input(gathered(table.sin, table.pairs, positions), count, table.pairs.toLong()))
        }
    }

    private fun MutableMap<String, Input>.embed(name: String, table: String, ids: IntArray, first: Int, stop: Int) {
        val rows = tables.getValue(table)
        val width = (stop - first) * rows.format.dim
        val out = FloatBuffer.allocate(ids.size * width)
        for (id in ids) rows.put(id, first, stop, out)
        put(name, Input(out.array(), 1, ids.size.toLong(), width.toLong()))
    }

    /** Positions below [needed] and more, so that it is made anew seldom. */
    private fun table(kind: String, needed: Int): RotaryTable {
        val known = rotary[kind]
        if (known != null && known.rows >= needed) return known
        return RotaryTable(model.rope.getValue(kind), (needed + 1023) / 1024 * 1024).also { rotary[kind] = it }
    }

    private fun gathered(table: FloatBuffer, pairs: Int, positions: IntArray) = FloatArray(positions.size * pairs).also { out ->
        positions.forEachIndexed { index, position -> table.duplicate().position(position * pairs).get(out, index * pairs, pairs) }
    }

    override fun rewind(position: Int): Boolean {
        if (!slots.values.all { it.reaches(position) }) return false
        slots.values.forEach { it.rewind(position) }
        this.position = position
        return true
    }

    /** Rows of full layers that are in use are not written again: their numbers are enough. */
    override fun save(): Mark {
        val rings = if (program.shared) ringNames().associateWith { bytes(program.cache(it)) } else emptyMap()
        return State(position, slots.mapValues { it.value.save() }, rings)
    }

    private fun bytes(cache: ByteBuffer) = ByteArray(cache.capacity()).also { cache.duplicate().position(0).get(it) }

    override fun restore(mark: Mark): Boolean {
        check(mark is State) { "a mark of another engine" }
        if (!program.shared) return rewind(mark.position)
        position = mark.position
        for ((kind, held) in mark.held) slots.getValue(kind).restore(held)
        for ((name, saved) in mark.rings) program.cache(name).duplicate().position(0).put(saved)
        return true
    }

    /** The sliding layers' caches, as the program names them. */
    private fun ringNames() = model.caches.filter { it.kind == "sliding" }.flatMap { listOf("cache_${it.layer}_key", "cache_${it.layer}_value") }

    /** ExecuTorch ends no call early; one takes a part of a second. */
    override fun cancel() {
        stopped = true
    }

    override fun resume() {
        stopped = false
    }

    override fun close() {
        program.close()
        tables.values.forEach(RowTable::close)
    }

    companion object {
        /** Throws [GemmaError] if the bundle has no ExecuTorch artifact, [load] refuses it, or its parts do not fit. */
        fun open(bundle: Bundle, load: (File) -> Program): ExecutorchEngine {
            val artifact = bundle.artifact("executorch")
            val tables = openTables(bundle)
            return ExecutorchEngine(bundle, artifact, load(bundle.path(artifact.file)), tables)
        }
    }
}
