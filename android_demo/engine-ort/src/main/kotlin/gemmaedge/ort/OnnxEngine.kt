package gemmaedge.ort

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo
import gemmaedge.core.Artifact
import gemmaedge.core.Bundle
import gemmaedge.core.CHUNK
import gemmaedge.core.Cache
import gemmaedge.core.Cancelled
import gemmaedge.core.Engine
import gemmaedge.core.Mark
import gemmaedge.core.FullCache
import gemmaedge.core.GemmaError
import gemmaedge.core.RotaryTable
import gemmaedge.core.RowTable
import gemmaedge.core.SavedCache
import gemmaedge.core.WindowCache
import gemmaedge.core.floats
import gemmaedge.core.openHead
import gemmaedge.core.openTables
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer

private class State(override val position: Int, val caches: List<SavedCache>) : Mark

/** Feeds a bundle's ONNX artifact, as FORMAT.md, "The ONNX artifact", says. */
class OnnxEngine private constructor(
    private val bundle: Bundle,
    private val artifact: Artifact,
    private val session: OrtSession,
    private val tables: Map<String, RowTable>,
) : Engine {
    private val model = bundle.manifest.model
    private val inputs = artifact.inputs.map { it.name }.toSet()
    private val outputs = artifact.outputs.map { it.name }.toSet()
    private val head = openHead(model, tables)
    private val hidden = FloatArray(model.hiddenSize)
    private val lock = Any()
    private var running: OrtSession.RunOptions? = null // guarded by the lock
    private var stopped = false // guarded by the lock
    private var caches: List<Cache> = emptyList()
    private var rotary: Map<String, RotaryTable> = emptyMap()
    private var bound: Map<Int, Call> = emptyMap() // by tokens: of one token only

    override val name = "onnxruntime ${environment.version}"
    override val context get() = model.context
    override var position = 0
        private set

    init {
        checkFit()
        reset()
    }

    override fun reset() {
        unbind()
        position = 0
        rotary = emptyMap()
        caches = model.caches.map { if (it.kind == "sliding") WindowCache(it, model.window) else FullCache(it) }
    }

    override fun rewind(position: Int): Boolean {
        val before = caches.map { it.length }
        if (caches.map { it.rewind(position, this.position) }.all { it }) {
            this.position = position
            return true
        }
        caches.zip(before) { cache, length -> cache.length = length }
        return false
    }

    override fun save(): Mark = State(position, caches.map { it.save() })

    override fun restore(mark: Mark): Boolean {
        check(mark is State) { "a mark of another engine" }
        position = mark.position
        caches.zip(mark.caches) { cache, saved -> cache.restore(saved) }
        return true
    }

    override fun cancel() = synchronized(lock) {
        stopped = true
        running?.setTerminate(true)
        Unit
    }

    override fun resume() = synchronized(lock) { stopped = false }

    override fun forward(ids: IntArray): FloatArray {
        if (position + ids.size > model.context) {
            throw GemmaError("${position + ids.size} tokens are more than the model's context, ${model.context}", "start a new conversation")
        }
        makeRoom(ids.size)
        val call = bound[ids.size] ?: Call(ids.size)
        try {
            call.fill(ids)
            run(call)
            position += ids.size
            for (cache in caches) cache.length += ids.size
            val logits = FloatArray(model.vocabSize).also { call.logits.duplicate().get(it) }
            call.hidden.duplicate().get(hidden)
            head?.rescore(logits, hidden)
            return logits
        } finally {
            if (ids.size == 1) bound = mapOf(1 to call) else call.close()
        }
    }

    private fun run(call: Call) = OrtSession.RunOptions().use { options ->
        synchronized(lock) {
            if (stopped) throw Cancelled()
            running = options
        }
        try {
            session.run(call.given, emptySet(), call.pinned, options).close()
        } catch (failure: OrtException) {
            if (synchronized(lock) { stopped }) throw Cancelled()
            throw GemmaError("onnxruntime: ${failure.message}", "check the bundle with `gemma-edge verify`", failure)
        } finally {
            synchronized(lock) { running = null }
        }
    }

    private fun makeRoom(tokens: Int) {
        val moved = caches.map { it.makeRoom(tokens) }.any { it }
        val needed = position + tokens
        val grown = rotary.isEmpty() || needed > rotary.values.first().rows
        if (moved || grown) unbind()
        if (!grown) return
        val steps = minOf((needed + 1023) / 1024 * 1024, maxOf(model.context, needed))
        val rows = maxOf(steps, caches.maxOf { it.rows })
        rotary = model.rope.mapValues { RotaryTable(it.value, rows) }
    }

    private fun unbind() {
        bound.values.forEach(Call::close)
        bound = emptyMap()
    }

    override fun close() {
        unbind()
        session.close()
        tables.values.forEach(RowTable::close)
    }

    /** Throws [GemmaError] unless the graph has the sizes that the manifest gives. */
    private fun checkFit() {
        val widths = mapOf(
            "inputs_embeds" to model.hiddenSize,
            "per_layer_inputs" to model.ownKvLayers * model.perLayerDim,
            "per_layer_inputs_kept" to (model.layers - model.ownKvLayers) * model.perLayerDim,
            "logits" to model.vocabSize,
            "hidden" to model.hiddenSize,
        )
        val shapes = (session.inputInfo + session.outputInfo).mapValues { (it.value.info as TensorInfo).shape }
        val wrong = widths.filter { (name, width) -> width != 0 && shapes[name]?.lastOrNull() != width.toLong() }.keys
        val missing = inputs - session.inputNames - setOf("")
        if (wrong.isNotEmpty() || missing.isNotEmpty() || !cachesFit(shapes)) {
            val named = (wrong + missing).joinToString().ifEmpty { "the caches" }
            throw GemmaError("${bundle.folder}: $named do not have the sizes that bundle.json gives", "export the bundle again")
        }
    }

    private fun cachesFit(shapes: Map<String, LongArray>): Boolean {
        val owners = model.caches.map { it.layer }
        val pasts = session.inputNames.filter { it.startsWith("past.") }.toSet()
        val fit = model.caches.all { cache ->
            listOf("key", "value").all { part ->
                val info = session.inputInfo["past.${cache.layer}.$part"]?.info as? TensorInfo
                val type = if (cache.dtype == "int8") OnnxJavaType.INT8 else OnnxJavaType.FLOAT
                info != null && info.type == type && info.shape[1] == cache.kvHeads.toLong() && info.shape[3] == cache.headDim.toLong()
            }
        }
        val ropes = model.rope.all { (kind, rope) -> shapes["$kind.cos"].let { it == null || it.last() == rope.headDim / 2L } }
        val tables = session.inputNames.filter { it.endsWith(".cos") }.all { it.removeSuffix(".cos") in model.rope }
        val sources = model.sources.size == model.layers && model.sources.all { it in owners }
        return fit && ropes && tables && sources && pasts.size == 2 * owners.size
    }

    /** Tensors of one call shape, over arrays of this side. */
    private inner class Call(private val tokens: Int) : AutoCloseable {
        private val buffers = HashMap<String, FloatBuffer>()
        private val owned = ArrayList<OnnxTensor>()
        private val positions = direct(8 * tokens).asLongBuffer()
        private val positionsKept = direct(8).asLongBuffer()
        private val kept = direct(8).asLongBuffer().put(0, tokens - 1L)
        private val lasts = mapOf("full" to direct(4).asIntBuffer(), "sliding" to direct(4).asIntBuffer())
        private val totals = mapOf("full" to direct(4).asIntBuffer(), "sliding" to direct(4).asIntBuffer())
        val logits = floats(model.vocabSize)
        val hidden = floats(model.hiddenSize)
        val given = HashMap<String, OnnxTensor>()
        val pinned = HashMap<String, OnnxTensor>()

        init {
            val own = model.ownKvLayers
            embed("inputs_embeds", tokens, model.hiddenSize)
            embed("per_layer_inputs", tokens, own * model.perLayerDim)
            embed("per_layer_inputs_kept", 1, (model.layers - own) * model.perLayerDim)
            give("positions") { OnnxTensor.createTensor(environment, positions, longArrayOf(1, tokens.toLong())) }
            give("positions_kept") { OnnxTensor.createTensor(environment, positionsKept, longArrayOf(1, 1)) }
            give("kept") { OnnxTensor.createTensor(environment, kept, longArrayOf(1)) }
            for (kind in lasts.keys) {
                give("$kind.last") { OnnxTensor.createTensor(environment, lasts.getValue(kind), longArrayOf(1)) }
                give("$kind.total") { OnnxTensor.createTensor(environment, totals.getValue(kind), longArrayOf()) }
            }
            for ((kind, table) in rotary) {
                val shape = longArrayOf(table.rows.toLong(), table.pairs.toLong())
                give("$kind.cos") { OnnxTensor.createTensor(environment, table.cos.duplicate(), shape) }
                give("$kind.sin") { OnnxTensor.createTensor(environment, table.sin.duplicate(), shape) }
            }
            caches.forEach(::bind)
            pin("logits", keep(OnnxTensor.createTensor(environment, logits.duplicate(), longArrayOf(1, 1, model.vocabSize.toLong()))))
            pin("hidden", keep(OnnxTensor.createTensor(environment, hidden.duplicate(), longArrayOf(1, 1, model.hiddenSize.toLong()))))
        }

        private fun direct(bytes: Int) = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())

        private fun keep(tensor: OnnxTensor) = tensor.also(owned::add)

        private fun give(name: String, make: () -> OnnxTensor) {
            if (name in inputs) given[name] = keep(make())
        }

        private fun pin(name: String, tensor: OnnxTensor) {
            if (name in outputs) pinned[name] = tensor
        }

        private fun embed(name: String, count: Int, width: Int) {
            if (name !in inputs) return
            val buffer = floats(count * width)
            buffers[name] = buffer
            give(name) { OnnxTensor.createTensor(environment, buffer.duplicate(), longArrayOf(1, count.toLong(), width.toLong())) }
        }

        /** The array of a layer is its past, and the present of every layer that reads it. */
        private fun bind(cache: Cache) {
            val spec = cache.spec
            val shape = longArrayOf(1, spec.kvHeads.toLong(), cache.rows.toLong(), spec.headDim.toLong())
            for ((part, array) in listOf("key" to cache.key, "value" to cache.value)) {
                val whole = array.duplicate().order(ByteOrder.nativeOrder())
                val tensor = keep(
                    if (spec.dtype == "int8") OnnxTensor.createTensor(environment, whole, shape, OnnxJavaType.INT8)
                    else OnnxTensor.createTensor(environment, whole.asFloatBuffer(), shape),
                )
                given["past.${spec.layer}.$part"] = tensor
                model.sources.forEachIndexed { layer, source -> if (source == spec.layer) pin("present.$layer.$part", tensor) }
                pin("kept.${spec.layer}.$part", tensor)
            }
        }

        fun fill(ids: IntArray) {
            val own = model.ownKvLayers
            put("inputs_embeds", "tokens", ids, 0, 1)
            put("per_layer_inputs", "per_layer", ids, 0, own)
            put("per_layer_inputs_kept", "per_layer", intArrayOf(ids.last()), own, model.layers)
            for (index in ids.indices) positions.put(index, (position + index).toLong())
            positionsKept.put(0, position + ids.size - 1L)
            for (cache in caches) {
                val total = cache.length + ids.size
                lasts.getValue(cache.spec.kind).put(0, total - 1)
                totals.getValue(cache.spec.kind).put(0, total)
            }
        }

        private fun put(name: String, table: String, ids: IntArray, first: Int, stop: Int) {
            val out = buffers[name]?.duplicate() ?: return
            for (id in ids) tables.getValue(table).put(id, first, stop, out)
        }

        override fun close() = owned.forEach(OnnxTensor::close)
    }

    companion object {
        /** Throws [GemmaError] if the bundle has no ONNX artifact, onnxruntime cannot load it, or its parts do not fit. */
        fun open(bundle: Bundle, threads: Int): OnnxEngine {
            val artifact = bundle.artifact("onnx")
            bundle.path(artifact.data)
            val tables = openTables(bundle)
            return OnnxEngine(bundle, artifact, session(bundle.path(artifact.file).path, threads, artifact.kleidiai), tables)
        }

        private fun session(path: String, threads: Int, kleidiai: Boolean): OrtSession = try {
            val environment = environment // before the options, which load the library too
            OrtSession.SessionOptions().use { options ->
                options.setIntraOpNumThreads(threads)
                options.setSessionLogLevel(ai.onnxruntime.OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL)
                // A plan of a run's memory would keep the largest chunk's activations for the life of the session.
                options.setMemoryPatternOptimization(false)
                if (!kleidiai) options.addConfigEntry("mlas.disable_kleidiai", "1")
                environment.createSession(path, options)
            }
        } catch (failure: OrtException) {
            throw GemmaError("$path: onnxruntime cannot load it: ${failure.message}", "export the bundle again", failure)
        }
    }
}
