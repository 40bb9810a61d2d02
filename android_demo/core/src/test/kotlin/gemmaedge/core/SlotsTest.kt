package gemmaedge.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Test

private const val NO = -1e9f

class SlotsTest {
    @Test fun slotsAreARingAndKnowWhatTheyHold() {
        val slots = Slots(rows = 6, window = 4)
        assertArrayEquals(longArrayOf(0, 1, 2), slots.take(intArrayOf(0, 1, 2)))
        assertArrayEquals(floatArrayOf(0f, 0f, 0f, NO, NO, NO), slots.mask(intArrayOf(2)), 0f)
        assertArrayEquals(longArrayOf(3, 4, 5, 0), slots.take(intArrayOf(3, 4, 5, 6)))
        assertArrayEquals(floatArrayOf(NO, 0f, 0f, 0f, 0f, NO, 0f, NO, NO, 0f, 0f, 0f), slots.mask(intArrayOf(4, 6)), 0f)
        assertEquals(listOf(true, false), listOf(slots.reaches(5), slots.reaches(3)))
        val saved = slots.save()
        slots.rewind(5)
        assertArrayEquals(intArrayOf(-1, 1, 2, 3, 4, -1), slots.save())
        slots.restore(saved)
        assertArrayEquals(intArrayOf(6, 1, 2, 3, 4, 5), slots.save())
    }

    @Test fun aLayerWithoutAWindowSeesAll() {
        val slots = Slots(rows = 4, window = 0)
        slots.take(intArrayOf(0, 1, 2))
        assertArrayEquals(floatArrayOf(0f, 0f, NO, NO, 0f, 0f, 0f, NO), slots.mask(intArrayOf(1, 2)), 0f)
        assertEquals(listOf(true, false), listOf(slots.reaches(3), slots.reaches(4)))
    }
}
