package gemmaedge.core

import java.io.Closeable
import java.io.File
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer

private val MAGIC = "GEMROWS1".toByteArray()
private const val VERSION = 2
private const val START = 4096
private const val HEADER = 44

/** Geometry of a row file; FORMAT.md draws the bytes. */
data class RowFormat(val rows: Int, val layers: Int, val dim: Int, val bits: Int, val scales: Int, val scaleBits: Int) {
    val layerBytes get() = dim * bits / 8
    val scaleBytes get() = scales * scaleBits / 8
    val rowBytes get() = (layers.toLong() * (layerBytes + scaleBytes) + 3) / 4 * 4
    val size get() = START + rows * rowBytes

    /** Values that share a scale. */
    val width get() = if (scales > 0) (dim + scales - 1) / scales else dim
}

/** Row files: embeddings that stay on flash. A row holds all that one token needs. */
class RowTable(private val file: File, private val multiplier: Float, window: Long = 1L shl 30) : Closeable {
    val format = readFormat(file)
    private val mapped = MappedFile(file, START.toLong(), format.rowBytes.toInt(), format.rows, window)
    private val raw = ByteArray(format.rowBytes.toInt())
    private val view = ByteBuffer.wrap(raw).order(ByteOrder.LITTLE_ENDIAN)

    /** The bytes of a row. Throws [GemmaError] for an id outside the table. */
    fun read(id: Int): ByteArray {
        if (id !in 0 until format.rows) {
            throw GemmaError("token id $id: ${file.name} has ${format.rows} rows", "use this bundle's tokenizer")
        }
        mapped.read(id, raw)
        return raw
    }

    /** Put layers [first] to [stop] of a row, (stop - first, dim) float32 multiplied out, into [out]. */
    fun put(id: Int, first: Int, stop: Int, out: FloatBuffer) {
        read(id)
        for (layer in first until stop) {
            for (index in 0 until format.dim) out.put(value(layer, index))
        }
    }

    /** Row [id] of one layer times [state] (dim,), without the multiplier. */
    fun product(id: Int, state: FloatArray): Float {
        read(id)
        var sum = 0f
        if (format.bits == 8 && format.scales == 1) { // one scale goes over the sum
            for (index in state.indices) sum += raw[index] * state[index]
            return sum * scale(0, 0)
        }
        for (index in state.indices) sum += integerOrFloat(0, index) * (if (format.bits < 16) scale(0, index / format.width) else 1f) * state[index]
        return sum
    }

    private fun value(layer: Int, index: Int): Float {
        val value = integerOrFloat(layer, index)
        return if (format.bits < 16) value * (scale(layer, index / format.width) * multiplier) else value * multiplier
    }

    /** Low bits first, stored with half added; bytes are two's complement. */
    private fun integerOrFloat(layer: Int, index: Int): Float {
        val at = layer * format.layerBytes
        return when (format.bits) {
            8 -> raw[at + index].toFloat()
            4 -> (((raw[at + index / 2].toInt() shr (4 * (index % 2))) and 15) - 8).toFloat()
            2 -> (((raw[at + index / 4].toInt() shr (2 * (index % 4))) and 3) - 2).toFloat()
            16 -> bfloat16(view.getShort(at + 2 * index))
            else -> view.getFloat(at + 4 * index)
        }
    }

    private fun scale(layer: Int, index: Int): Float {
        val at = format.layers * format.layerBytes + layer * format.scaleBytes
        return if (format.scaleBits == 16) bfloat16(view.getShort(at + 2 * index)) else view.getFloat(at + 4 * index)
    }

    override fun close() = mapped.close()
}

fun bfloat16(bits: Short) = Float.fromBits(bits.toInt() shl 16)

/** Throws [GemmaError] unless header and file size agree. */
private fun readFormat(file: File): RowFormat {
    val head = ByteArray(HEADER)
    if (file.length() >= HEADER) RandomAccessFile(file, "r").use { it.readFully(head) }
    if (!head.copyOf(8).contentEquals(MAGIC)) throw GemmaError("$file is not a row file", EXPORT_AGAIN)
    val numbers = ByteBuffer.wrap(head).order(ByteOrder.LITTLE_ENDIAN).position(8)
    val (version, rows, rowBytes, layers, dim) = List(5) { numbers.getInt() }
    val (bits, scales, scaleBits, start) = List(4) { numbers.getInt() }
    if (version != VERSION || start != START) {
        val hint = if (version > VERSION) "upgrade gemma-edge" else EXPORT_AGAIN
        throw GemmaError("$file has the row file version $version, but this application reads $VERSION", hint)
    }
    val sane = rows >= 0 && layers in 1..Fields.LARGEST && dim in 1..Fields.LARGEST && scales in 0..Fields.LARGEST
    val sound = sane && bits in setOf(2, 4, 8, 16, 32) && dim.toLong() * bits % 8 == 0L && (scales > 0) == (bits < 16)
    val found = RowFormat(rows, layers, dim, bits, scales, scaleBits)
    if (!sound || scaleBits !in setOf(16, 32) || found.rowBytes != rowBytes.toLong() || found.size != file.length()) {
        throw GemmaError("$file has ${file.length()} bytes, which is wrong for $rows rows of $rowBytes bytes", EXPORT_AGAIN)
    }
    return found
}
