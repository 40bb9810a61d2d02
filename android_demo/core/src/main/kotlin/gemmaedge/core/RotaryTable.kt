package gemmaedge.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import kotlin.math.cos
import kotlin.math.pow
import kotlin.math.sin

/** Cosines and sines (rows, headDim / 2) float32 of position times frequency, both and the product in float32. */
class RotaryTable(rope: Rope, val rows: Int) {
    val pairs = rope.headDim / 2
    val cos = floats(rows * pairs)
    val sin = floats(rows * pairs)

    init {
        val frequency = FloatArray(pairs) {
            if (it < rope.rotatedPairs) rope.theta.pow(-2.0 * it / rope.headDim).toFloat() else 0f
        }
        for (position in 0 until rows) {
            for (pair in 0 until pairs) {
                val angle = (position * frequency[pair]).toDouble()
                cos.put(position * pairs + pair, cos(angle).toFloat())
                sin.put(position * pairs + pair, sin(angle).toFloat())
            }
        }
    }
}

fun floats(count: Int): FloatBuffer = ByteBuffer.allocateDirect(4 * count).order(ByteOrder.nativeOrder()).asFloatBuffer()
