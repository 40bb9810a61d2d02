package gemmaedge.core

private const val UNSEEN = -1e9f // far below any score

/**
 * Where a token's keys and values go in caches of a fixed number of rows, and which rows a token sees. A position goes to
 * the row of its number, modulo the rows: a full layer has a row for every position, a sliding layer a ring that is longer
 * than its window by the tokens of the longest call. A [window] of 0 sees all.
 */
class Slots(val rows: Int, private val window: Int) {
    private val held = IntArray(rows) { -1 } // the position whose keys and values a row has, or -1

    /** Rows for [positions]; what was there is forgotten. */
    fun take(positions: IntArray): LongArray = LongArray(positions.size) { index ->
        val row = positions[index] % rows
        held[row] = positions[index]
        row.toLong()
    }

    /** (positions, rows): 0 where a query at a position sees a row. */
    fun mask(positions: IntArray): FloatArray = FloatArray(positions.size * rows) { index ->
        val kept = held[index % rows]
        val distance = positions[index / rows] - kept
        if (kept >= 0 && distance >= 0 && (window == 0 || distance < window)) 0f else UNSEEN
    }

    /** Forget what is at [position], and after it. */
    fun rewind(position: Int) {
        for (row in held.indices) if (held[row] >= position) held[row] = -1
    }

    /** Whether all are held that a query at [position] sees before it. */
    fun reaches(position: Int): Boolean {
        val first = if (window > 0) maxOf(0, position - window + 1) else 0
        return position - first <= rows && (first until position).all { held[it % rows] == it }
    }

    fun save() = held.clone()

    fun restore(saved: IntArray) {
        saved.copyInto(held)
    }
}
