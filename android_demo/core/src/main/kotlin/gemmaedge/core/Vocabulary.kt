package gemmaedge.core

import java.io.File
import java.nio.ByteBuffer

private val MAGIC = "GEMVOCB1".toByteArray()
private const val VERSION = 1
private const val HEADER = 40

/** How a piece was made: of merges or one character; a byte; added; added and never shown. */
enum class PieceType { NORMAL, BYTE, ADDED, CONTROL }

/** How a text is cut before it is merged. */
enum class Splitting { WHOLE, WORDS }

/** The compact vocabulary, mapped. FORMAT.md draws the bytes. */
class Vocabulary private constructor(private val bytes: ByteBuffer, private val counts: Counts) {
    private class Counts(
        val pieces: Int, val characters: Int, val added: Int, val merges: Int, val text: Int, val splitting: Int,
    ) {
        val typesAt get() = HEADER + 4L * (pieces + 1)
        val charactersAt get() = typesAt + (pieces + 3L) / 4 * 4
        val bytesAt get() = charactersAt + 8L * characters
        val addedAt get() = bytesAt + 4 * 256
        val firstAt get() = addedAt + 4L * added
        val mergesAt get() = firstAt + 4L * (pieces + 1)
        val textAt get() = mergesAt + 12L * merges
        val size get() = textAt + text
        val sane get() = listOf(pieces, characters, added, merges, text).all { it >= 0 } && splitting in 0..1
    }

    val pieces get() = counts.pieces
    val splitting get() = Splitting.entries[counts.splitting]
    val added get() = List(counts.added) { word(counts.addedAt, it) }

    fun type(token: Int) = PieceType.entries[bytes.get((counts.typesAt + token).toInt()).toInt()]

    fun raw(token: Int): ByteArray {
        val begin = word(HEADER.toLong(), token)
        val copy = ByteArray(word(HEADER.toLong(), token + 1) - begin)
        bytes.duplicate().position(counts.textAt.toInt() + begin).get(copy)
        return copy
    }

    fun piece(token: Int) = raw(token).toString(Charsets.UTF_8)

    fun byteId(byte: Int) = word(counts.bytesAt, byte)

    /** The id of a piece of one code point, or -1. */
    fun character(codePoint: Int): Int {
        val at = search(counts.characters) { word(counts.charactersAt, 2 * it).compareTo(codePoint) }
        return if (at < 0) -1 else word(counts.charactersAt, 2 * at + 1)
    }

    /** The row of the merge of two neighbours, or -1. */
    fun merge(left: Int, right: Int): Int {
        val begin = word(counts.firstAt, left)
        val at = search(word(counts.firstAt, left + 1) - begin) { word(counts.mergesAt, 3 * (begin + it)).compareTo(right) }
        return if (at < 0) -1 else begin + at
    }

    fun rank(merge: Int) = word(counts.mergesAt, 3 * merge + 1)

    fun product(merge: Int) = word(counts.mergesAt, 3 * merge + 2)

    private fun word(start: Long, index: Int) = bytes.getInt((start + 4L * index).toInt())

    private inline fun search(count: Int, compare: (Int) -> Int): Int {
        var low = 0
        var high = count - 1
        while (low <= high) {
            val middle = (low + high) ushr 1
            val order = compare(middle)
            if (order == 0) return middle
            if (order < 0) low = middle + 1 else high = middle - 1
        }
        return -1
    }

    /** Whether every id and offset leads somewhere. */
    private fun sound(): Boolean = with(counts) {
        val ids = 0 until pieces
        risesTo(HEADER.toLong(), text) && risesTo(firstAt, merges) &&
            ids.all { bytes.get((typesAt + it).toInt()) in 0..3 } &&
            (0 until characters).all { word(charactersAt, 2 * it + 1) in ids } &&
            (0 until characters).all { word(charactersAt, 2 * it) > (if (it > 0) word(charactersAt, 2 * it - 2) else -1) } &&
            (0 until 256).all { byteId(it) in ids } &&
            this@Vocabulary.added.all { it in ids && type(it) >= PieceType.ADDED } &&
            (0 until merges).all { word(mergesAt, 3 * it) in ids && product(it) in ids } &&
            rightsRise() && wholeCharacters()
    }

    private fun risesTo(start: Long, end: Int): Boolean =
        word(start, 0) == 0 && word(start, pieces) == end && (0 until pieces).all { word(start, it) <= word(start, it + 1) }

    private fun rightsRise(): Boolean = (0 until pieces).all { left ->
        val begin = word(counts.firstAt, left)
        (begin + 1 until word(counts.firstAt, left + 1)).all {
            word(counts.mergesAt, 3 * it) > word(counts.mergesAt, 3 * it - 3)
        }
    }

    private fun wholeCharacters(): Boolean {
        val text = ByteArray(counts.text)
        bytes.duplicate().position(counts.textAt.toInt()).get(text)
        val starts = (0 until pieces).map { word(HEADER.toLong(), it) }.filter { it < text.size }
        return strictUtf8(text) != null && starts.none { text[it].toInt() and 0xC0 == 0x80 }
    }

    companion object {
        /** Throws [GemmaError] unless all sizes, ids and offsets of the file agree. */
        fun open(file: File): Vocabulary {
            val bytes = mapWhole(file)
            val magic = ByteArray(8)
            if (bytes.capacity() >= HEADER) bytes.duplicate().get(magic)
            if (!magic.contentEquals(MAGIC)) throw GemmaError("$file is not a compact vocabulary", EXPORT_AGAIN)
            val version = bytes.getInt(8)
            if (version != VERSION) {
                val hint = if (version > VERSION) "upgrade gemma-edge" else EXPORT_AGAIN
                throw GemmaError("$file has the vocabulary version $version, but this application reads $VERSION", hint)
            }
            val (pieces, characters, added, merges, text) = List(5) { bytes.getInt(12 + 4 * it) }
            val counts = Counts(pieces, characters, added, merges, text, bytes.getInt(32))
            if (!counts.sane || counts.size != bytes.capacity().toLong()) {
                throw GemmaError("$file has ${bytes.capacity()} bytes, which is wrong for $pieces pieces and $merges merges", EXPORT_AGAIN)
            }
            val found = Vocabulary(bytes, counts)
            if (!found.sound()) throw GemmaError("$file: corrupt vocabulary: an id or an offset is out of range", EXPORT_AGAIN)
            return found
        }
    }
}
