package gemmaedge.core

import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.nio.charset.CodingErrorAction

/** The text, or null if the bytes are not UTF-8. */
fun strictUtf8(bytes: ByteArray): String? {
    val decoder = Charsets.UTF_8.newDecoder().onMalformedInput(CodingErrorAction.REPORT)
    return try {
        decoder.onUnmappableCharacter(CodingErrorAction.REPORT).decode(ByteBuffer.wrap(bytes)).toString()
    } catch (malformed: CharacterCodingException) {
        null
    }
}

/**
 * The text of bytes that may not be UTF-8: each longest beginning of a character that is not finished is one U+FFFD,
 * as the Unicode standard recommends and Python and Swift do. Java's own decoder counts some of them otherwise.
 */
fun lenientUtf8(bytes: ByteArray): String {
    val made = StringBuilder()
    var at = 0
    while (at < bytes.size) {
        val length = wellFormed(bytes, at)
        if (length > 0) made.append(String(bytes, at, length, Charsets.UTF_8)) else made.append('\uFFFD')
        at += if (length > 0) length else -length
    }
    return made.toString()
}

/** Bytes of the character at [at]; or, below 0, of the beginning of one that is not finished. */
private fun wellFormed(bytes: ByteArray, at: Int): Int {
    val first = bytes[at].toInt() and 0xFF
    val length = when (first) {
        in 0..0x7F -> return 1
        in 0xC2..0xDF -> 2
        in 0xE0..0xEF -> 3
        in 0xF0..0xF4 -> 4
        else -> return -1
    }
    for (index in 1 until length) {
        val lowest = if (index > 1) 0x80 else when (first) { 0xE0 -> 0xA0; 0xF0 -> 0x90; else -> 0x80 }
        val highest = if (index > 1) 0xBF else when (first) { 0xED -> 0x9F; 0xF4 -> 0x8F; else -> 0xBF }
        val next = if (at + index < bytes.size) bytes[at + index].toInt() and 0xFF else -1
        if (next !in lowest..highest) return -index
    }
    return length
}
