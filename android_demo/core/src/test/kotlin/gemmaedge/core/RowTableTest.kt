package gemmaedge.core

import java.io.File
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class RowTableTest {
    private val bundle = Bundle.open(GoldenSet.INT4.bundle)

    private fun open(name: String, window: Long = 1L shl 30, bundle: Bundle = this.bundle): RowTable =
        bundle.manifest.tables.getValue(name).let { RowTable(bundle.path(it.file), it.multiplier.toFloat(), window) }

    @Test fun bytesAndValuesAreThoseOfPython() {
        for ((set, window) in listOf(GoldenSet.INT4 to (1L shl 30), GoldenSet.INT4 to 5000L, GoldenSet.FLOAT to 5000L)) {
            val tables = bundle.manifest.tables.keys.associateWith { open(it, window, Bundle.open(set.bundle)) }
            for (line in set.lines("rows.jsonl")) {
                val table = tables.getValue(line.text("table"))
                assertArrayEquals(line.bytes("raw"), table.read(line.int("id")))
                val values = FloatBuffer.allocate(table.format.layers * table.format.dim)
                table.put(line.int("id"), 0, table.format.layers, values)
                assertArrayEquals(line.floats("values"), values.array(), 0f)
            }
        }
    }

    @Test fun aProductIsTheSumOfValuesTimesTheState() {
        val table = open("tokens")
        val state = FloatArray(table.format.dim) { (it % 7) - 3f }
        val values = FloatBuffer.allocate(table.format.dim)
        table.put(5, 0, 1, values)
        val expected = state.indices.sumOf { (values[it] * state[it]).toDouble() } / bundle.manifest.tables.getValue("tokens").multiplier
        assertEquals(expected, table.product(5, state).toDouble(), 1e-3)
    }

    @Test fun anIdOutsideTheTableIsRefused() {
        val error = assertThrows(GemmaError::class.java) { open("tokens").read(4096) }
        assertEquals("token id 4096: tokens.rows has 4096 rows", error.sentence)
    }

    /** The size of E2B's per-layer table, 2.4 GB, with holes instead of most rows. */
    @Test fun aTableAbove2GiBIsReadFromItsFirstToItsLastRow() {
        val format = RowFormat(262_144, 35, 256, 8, 1, 16)
        val file = File.createTempFile("large", ".rows")
        try {
            RandomAccessFile(file, "rw").use { made ->
                made.setLength(format.size)
                made.write(header(format))
                for (id in listOf(0, 131_071, format.rows - 1)) {
                    made.seek(4096 + id * format.rowBytes)
                    made.write(ByteArray(4) { (id % 100 + it).toByte() })
                }
            }
            RowTable(file, 1f).use { table ->
                for (id in listOf(0, 131_071, format.rows - 1)) {
                    assertArrayEquals(ByteArray(4) { (id % 100 + it).toByte() }, table.read(id).copyOf(4))
                }
            }
        } finally {
            file.delete()
        }
    }

    private fun header(format: RowFormat): ByteArray {
        val header = ByteBuffer.allocate(44).order(ByteOrder.LITTLE_ENDIAN).put("GEMROWS1".toByteArray())
        for (number in listOf(2, format.rows, format.rowBytes.toInt(), format.layers, format.dim, format.bits, format.scales, format.scaleBits, 4096)) {
            header.putInt(number)
        }
        return header.array()
    }
}
