package gemmaedge.core

import java.io.Closeable
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import java.nio.file.StandardOpenOption

/**
 * A file of fixed-size records behind a header, mapped in windows: java.nio maps 2 GiB at most.
 * A window holds whole records, so that each of them lies in one.
 */
class MappedFile(file: File, private val start: Long, private val record: Int, records: Int, window: Long = 1L shl 30) : Closeable {
    private val channel = FileChannel.open(file.toPath(), StandardOpenOption.READ)
    private val perWindow = (window / record).toInt().coerceAtLeast(1)
    private val windows = Array((records + perWindow - 1) / perWindow) { index ->
        val first = index.toLong() * perWindow
        val count = minOf(perWindow.toLong(), records - first)
        channel.map(FileChannel.MapMode.READ_ONLY, start + first * record, count * record).order(ByteOrder.LITTLE_ENDIAN)
    }
    val windowCount get() = windows.size

    /** Copy record [index] to the beginning of [target]. */
    fun read(index: Int, target: ByteArray) {
        val view = windows[index / perWindow].duplicate()
        view.position(index % perWindow * record)
        view.get(target, 0, record)
    }

    override fun close() = channel.close()
}

/** A whole file, mapped; the numbers in it are little-endian. */
fun mapWhole(file: File): ByteBuffer = FileChannel.open(file.toPath(), StandardOpenOption.READ).use {
    it.map(FileChannel.MapMode.READ_ONLY, 0, it.size()).order(ByteOrder.LITTLE_ENDIAN)
}
