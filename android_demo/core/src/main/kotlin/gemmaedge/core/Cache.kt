package gemmaedge.core

import java.nio.ByteBuffer
import java.nio.ByteOrder

const val CHUNK = 256 // prompt tokens a call
const val STEP = 1024 // rows by which a full layer's cache and the rotary tables grow
const val TURNS = 4 // ends of turns whose windows a session keeps
const val SLACK = 64 // rows a window may run over before it is moved to the front

/** A cache at one time: rows in use, and copies of them where they may be overwritten. */
class SavedCache(val length: Int, val key: ByteArray? = null, val value: ByteArray? = null)

/** Keys and values of a layer, (1, kvHeads, rows, headDim) each, which the graph writes in place. */
sealed class Cache(val spec: CacheSpec, rows: Int) {
    var length = 0
    var rows = rows
        protected set
    var key = empty(rows)
        protected set
    var value = empty(rows)
        protected set
    protected val rowBytes = spec.headDim * spec.valueBytes

    /** Room for [tokens] more; true if rows moved or the arrays are new ones. */
    abstract fun makeRoom(tokens: Int): Boolean

    /** Back from position [at]; false if rows that are needed are gone. */
    abstract fun rewind(position: Int, at: Int): Boolean

    abstract fun save(): SavedCache

    abstract fun restore(saved: SavedCache)

    protected fun empty(rows: Int): ByteBuffer {
        val size = spec.kvHeads.toLong() * rows * spec.headDim * spec.valueBytes
        if (size > Int.MAX_VALUE) throw GemmaError("a cache of $rows rows takes $size bytes", "ask for a shorter context")
        return ByteBuffer.allocateDirect(size.toInt()).order(ByteOrder.nativeOrder())
    }

    /** Copy [count] rows of every head from row [from] of an array of [wide] rows to row [to] of one of [wideTo]. */
    protected fun copyRows(source: ByteBuffer, wide: Int, from: Int, target: ByteBuffer, wideTo: Int, to: Int, count: Int) {
        val kept = ByteArray(count * rowBytes)
        for (head in 0 until spec.kvHeads) {
            source.duplicate().position((head * wide + from) * rowBytes).get(kept)
            target.duplicate().position((head * wideTo + to) * rowBytes).put(kept)
        }
    }
}

/** All positions so far; the array grows in steps as a conversation does. */
class FullCache(spec: CacheSpec) : Cache(spec, 0) {
    override fun makeRoom(tokens: Int): Boolean {
        val needed = length + tokens
        if (needed <= rows) return false
        val grown = (needed + STEP - 1) / STEP * STEP
        key = regrown(key, grown)
        value = regrown(value, grown)
        rows = grown
        return true
    }

    private fun regrown(array: ByteBuffer, grown: Int) =
        empty(grown).also { copyRows(array, rows, 0, it, grown, 0, length) }

    override fun rewind(position: Int, at: Int): Boolean {
        length = position
        return true
    }

    /** Rows in use are never written again: their number is enough. */
    override fun save() = SavedCache(length)

    override fun restore(saved: SavedCache) {
        length = saved.length
    }
}

/** The last positions, oldest first. When the rows run out, the window moves to the front. */
class WindowCache(spec: CacheSpec, private val window: Int) : Cache(spec, window + maxOf(CHUNK, SLACK)) {
    override fun makeRoom(tokens: Int): Boolean {
        if (length + tokens > window + maxOf(tokens, SLACK)) {
            val kept = window - 1
            for (array in listOf(key, value)) copyRows(array, rows, length - kept, array, rows, 0, kept)
            length = kept
        }
        return false
    }

    override fun rewind(position: Int, at: Int): Boolean {
        val first = at - length // position of row 0
        if (first > maxOf(0, position - (window - 1))) return false
        length = position - first
        return true
    }

    override fun save() = SavedCache(length, taken(key), taken(value))

    override fun restore(saved: SavedCache) {
        length = saved.length
        put(key, saved.key!!)
        put(value, saved.value!!)
    }

    private fun taken(array: ByteBuffer): ByteArray {
        val copy = ByteArray(spec.kvHeads * length * rowBytes)
        for (head in 0 until spec.kvHeads) {
            array.duplicate().position(head * rows * rowBytes).get(copy, head * length * rowBytes, length * rowBytes)
        }
        return copy
    }

    private fun put(array: ByteBuffer, copy: ByteArray) {
        for (head in 0 until spec.kvHeads) {
            array.duplicate().position(head * rows * rowBytes).put(copy, head * length * rowBytes, length * rowBytes)
        }
    }
}
