package gemmaedge.core

import java.math.BigInteger

/** JSON to Map, List, String, Long, BigInteger, Double, Boolean and null. [JsonError] says where it is none. */
class JsonError(message: String) : Exception(message)

fun parseJson(bytes: ByteArray): Any? = parseJson(strictUtf8(bytes) ?: throw JsonError("not UTF-8"))

fun parseJson(text: String): Any? = JsonReader(text).document()

private class JsonReader(private val text: String) {
    private var at = 0
    private var depth = 0

    fun document(): Any? {
        val value = value()
        blanks()
        if (at < text.length) fail("more follows the value")
        return value
    }

    private fun value(): Any? {
        blanks()
        return when (peek()) {
            '{' -> nested(::map)
            '[' -> nested(::list)
            '"' -> string()
            't' -> word("true", true)
            'f' -> word("false", false)
            'n' -> word("null", null)
            else -> number()
        }
    }

    private fun <T> nested(read: () -> T): T {
        if (++depth > DEEPEST) fail("nested too deep")
        at++
        return read().also { depth-- }
    }

    private fun map(): Map<String, Any?> {
        val found = LinkedHashMap<String, Any?>()
        if (closes('}')) return found
        while (true) {
            blanks()
            if (peek() != '"') fail("a name is missing")
            val name = string()
            blanks()
            if (peek() != ':') fail("':' is missing")
            at++
            if (name in found) fail("${quoted(name.take(80))} is said twice in one object")
            found[name] = value()
            if (closes('}')) return found
            comma()
        }
    }

    private fun list(): List<Any?> {
        val found = ArrayList<Any?>()
        if (closes(']')) return found
        while (true) {
            found += value()
            if (closes(']')) return found
            comma()
        }
    }

    private fun closes(bracket: Char): Boolean {
        blanks()
        return (peek() == bracket).also { if (it) at++ }
    }

    private fun comma() {
        if (peek() != ',') fail("',' is missing")
        at++
    }

    private fun string(): String {
        at++
        val made = StringBuilder()
        while (true) {
            val character = peek()
            at++
            when {
                character == '"' -> return made.toString()
                character == '\\' -> made.append(escaped())
                character < ' ' -> fail("a control character in a string")
                else -> made.append(character)
            }
        }
    }

    private fun escaped(): Char {
        val character = peek()
        at++
        return when (character) {
            '"', '\\', '/' -> character
            'b' -> '\b'
            'f' -> '\u000c'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> {
                if (at + 4 > text.length) fail("the text ends early")
                val code = text.substring(at, at + 4).toIntOrNull(16) ?: fail("not four hex digits")
                at += 4
                code.toChar()
            }
            else -> fail("an unknown escape")
        }
    }

    private fun <T> word(word: String, value: T): T {
        if (!text.startsWith(word, at)) fail("not a value")
        at += word.length
        return value
    }

    private fun number(): Number {
        val found = NUMBER.matchAt(text, at) ?: fail("not a value")
        at += found.value.length
        val digits = found.value
        if (digits.any { it in ".eE" }) return digits.toDouble()
        return digits.toLongOrNull() ?: BigInteger(digits)
    }

    private fun blanks() {
        while (at < text.length && text[at] in " \t\r\n") at++
    }

    private fun peek(): Char = if (at < text.length) text[at] else fail("the text ends early")

    private fun fail(reason: String): Nothing = throw JsonError("JSON is malformed: $reason (character $at)")

    private companion object {
        const val DEEPEST = 500
        val NUMBER = Regex("-?(0|[1-9][0-9]{0,400})(\\.[0-9]+)?([eE][+-]?[0-9]+)?")
    }
}
