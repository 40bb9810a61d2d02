package gemmaedge.core

import kotlin.math.tanh

/** The two-stage head: the [count] largest logits again, from the token rows, which hold more bits than the graph's head. */
class Head(private val table: RowTable, private val count: Int, private val softcap: Float) {
    /** In place: [logits] (vocab,) after the softcap, which keeps their order; [hidden] (hidden,) after the final norm. */
    fun rescore(logits: FloatArray, hidden: FloatArray) {
        for (id in best(logits, count)) {
            val exact = table.product(id, hidden)
            logits[id] = if (softcap != 0f) tanh(exact / softcap) * softcap else exact
        }
    }
}
