package gemmaedge.core

import java.io.ByteArrayOutputStream
import java.util.PriorityQueue

private const val MARK = '▁'

/** Text to ids and back, by the compact vocabulary. */
class Tokenizer(val vocabulary: Vocabulary, val bos: Int) {
    private val added = AddedTokens(pieces { true })
    private val plain = AddedTokens(pieces { it == PieceType.ADDED })
    internal val control = AddedTokens(pieces { it == PieceType.CONTROL })
    internal val mask = ControlMask(control)

    private fun pieces(ofType: (PieceType) -> Boolean) =
        vocabulary.added.filter { ofType(vocabulary.type(it)) }.associateBy(vocabulary::piece)

    /** Token ids; [withBos] puts the start token before them, exactly once. */
    fun encode(text: String, withBos: Boolean = false): IntArray {
        val ids = Ids()
        if (withBos) ids.add(bos)
        encode(text, added, ids)
        val found = ids.toArray()
        return if (withBos && found.size > 1 && found[1] == bos) found.copyOfRange(1, found.size) else found
    }

    /** Ids of what a template rendered of hidden messages: what the mask shows again stays text. */
    internal fun encodeRendered(text: String): IntArray {
        val ids = Ids()
        control.cut(text, { encode(mask.show(it), plain, ids) }, { ids.add(control.idOf(it)) })
        return ids.toArray()
    }

    private fun encode(text: String, tokens: AddedTokens, ids: Ids) =
        tokens.cut(text, { encodePlain(it, ids) }, { ids.add(tokens.idOf(it)) })

    /** Ids of bytes that may not be UTF-8, as of a file that was shared. */
    fun encode(bytes: ByteArray): IntArray = encode(lenientUtf8(bytes))

    /** The id of an added token, or -1. */
    fun idOf(piece: String) = added.idOf(piece)

    fun decode(ids: IntArray): String {
        val stream = stream()
        return ids.joinToString("") { stream.push(it) } + stream.finish()
    }

    fun stream() = Stream(vocabulary)

    private fun encodePlain(text: String, ids: Ids) {
        val marked = text.replace(' ', MARK)
        var start = 0
        while (start < marked.length) {
            val end = if (vocabulary.splitting == Splitting.WORDS) wordEnd(marked, start) else marked.length
            merge(symbols(marked, start, end), ids)
            start = end
        }
    }

    /** Ids of the characters of a word, or of their bytes. Half a surrogate pair is U+FFFD. */
    private fun symbols(text: String, start: Int, end: Int): IntArray {
        val symbols = Ids()
        var at = start
        while (at < end) {
            val found = text.codePointAt(at)
            at += Character.charCount(found)
            val codePoint = if (found in 0xD800..0xDFFF) 0xFFFD else found
            val id = vocabulary.character(codePoint)
            if (id >= 0) {
                symbols.add(id)
            } else {
                for (byte in String(Character.toChars(codePoint)).toByteArray()) symbols.add(vocabulary.byteId(byte.toInt() and 0xFF))
            }
        }
        return symbols.toArray()
    }

    private class Merge(val rank: Int, val at: Int, val left: Int, val right: Int, val product: Int)

    /** Byte-pair encoding: always the merge of the lowest rank, of equals the leftmost. */
    private fun merge(tokens: IntArray, ids: Ids) {
        val after = IntArray(tokens.size) { if (it + 1 < tokens.size) it + 1 else -1 }
        val before = IntArray(tokens.size) { it - 1 }
        val queue = PriorityQueue<Merge>(compareBy<Merge> { it.rank }.thenBy { it.at })
        fun offer(at: Int) {
            val following = if (at >= 0) after[at] else -1
            val merge = if (following >= 0) vocabulary.merge(tokens[at], tokens[following]) else -1
            if (merge >= 0) queue += Merge(vocabulary.rank(merge), at, tokens[at], tokens[following], vocabulary.product(merge))
        }
        for (at in tokens.indices) offer(at)
        while (true) {
            val best = queue.poll() ?: break
            val following = after[best.at]
            // One of the two may have been merged since.
            if (following < 0 || tokens[best.at] != best.left || tokens[following] != best.right) continue
            tokens[best.at] = best.product
            tokens[following] = -1
            after[best.at] = after[following]
            if (after[best.at] >= 0) before[after[best.at]] = best.at
            offer(best.at)
            offer(before[best.at])
        }
        for (token in tokens) if (token >= 0) ids.add(token)
    }
}

/** Where a word ends: a break; a mark and what is neither; or marks. */
private fun wordEnd(text: String, at: Int): Int {
    if (text[at] == '\n') return at + 1
    val start = if (text[at] == MARK) at + 1 else at
    var stop = start
    while (stop < text.length && text[stop] != MARK && text[stop] != '\n') stop++
    if (stop > start) return stop
    while (stop < text.length && text[stop] == MARK) stop++
    return stop
}

private class Ids {
    private var values = IntArray(16)
    private var count = 0

    fun add(id: Int) {
        if (count == values.size) values = values.copyOf(2 * count)
        values[count++] = id
    }

    fun toArray() = values.copyOf(count)
}

/** Text as it grows, never half a character. */
class Stream(private val vocabulary: Vocabulary) {
    private val bytes = ByteArrayOutputStream()

    /** What one more token adds. Throws [GemmaError] for an id outside the vocabulary. */
    fun push(token: Int): String {
        if (token !in 0 until vocabulary.pieces) throw GemmaError("token id $token: the vocabulary has ${vocabulary.pieces}", EXPORT_AGAIN)
        return when (vocabulary.type(token)) {
            PieceType.CONTROL -> ""
            PieceType.BYTE -> pushByte(vocabulary.piece(token).substring(3, 5).toInt(16))
            else -> finish() + vocabulary.piece(token).replace(MARK, ' ')
        }
    }

    /** What is left: bytes that are no character are U+FFFD each. */
    fun finish(): String {
        val left = bytes.toByteArray()
        bytes.reset()
        return strictUtf8(left) ?: "\uFFFD".repeat(left.size)
    }

    private fun pushByte(byte: Int): String {
        bytes.write(byte)
        val text = strictUtf8(bytes.toByteArray()) ?: return ""
        bytes.reset()
        return text
    }
}
