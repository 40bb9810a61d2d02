package gemmaedge.jinja

/** A template that is malformed, or that refuses what it is given. */
class TemplateError(message: String) : Exception(message)

internal enum class TokenKind { TEXT, PRINT_BEGIN, PRINT_END, BLOCK_BEGIN, BLOCK_END, NAME, STRING, INTEGER, FLOAT, OPERATOR, END }

internal class Token(val kind: TokenKind, val text: String) {
    fun isName(name: String) = kind == TokenKind.NAME && text == name

    fun isOperator(operator: String) = kind == TokenKind.OPERATOR && text == operator

    override fun toString() = if (kind == TokenKind.END) "the end" else "'$text'"
}

/** Cuts a template into text and the tokens of its tags, with trim_blocks and lstrip_blocks. */
internal class Lexer(source: String) {
    private val text = source.replace("\r\n", "\n").replace('\r', '\n').removeSuffix("\n")
    private val tokens = ArrayList<Token>()
    private var at = 0
    private var lineStarts = true // what came before ended with a line break

    fun tokens(): List<Token> {
        while (at < text.length) {
            val begin = nextTag()
            if (begin < 0) {
                add(TokenKind.TEXT, text.substring(at))
                break
            }
            val kind = text[begin + 1]
            val sign = text.getOrElse(begin + 2) { ' ' }
            addTextBefore(begin, kind, sign)
            at = begin + if (sign in "-+") 3 else 2
            when (kind) {
                '#' -> comment()
                '{' -> tag("}}", TokenKind.PRINT_BEGIN, TokenKind.PRINT_END)
                else -> if (!raw()) tag("%}", TokenKind.BLOCK_BEGIN, TokenKind.BLOCK_END)
            }
        }
        add(TokenKind.END, "")
        return tokens
    }

    private fun add(kind: TokenKind, text: String) {
        if (kind != TokenKind.TEXT || text.isNotEmpty()) tokens += Token(kind, text)
    }

    private fun nextTag(): Int {
        var found = text.indexOf('{', at)
        while (found >= 0 && text.getOrElse(found + 1) { ' ' } !in "{%#") found = text.indexOf('{', found + 1)
        return found
    }

    private fun addTextBefore(begin: Int, kind: Char, sign: Char) {
        val before = text.substring(at, begin)
        add(TokenKind.TEXT, if (sign == '-') before.trimEnd(::isBlank) else if (sign == '+' || kind == '{') before else lstripped(before))
    }

    /** Blanks between the start of a line and a block go away. */
    private fun lstripped(before: String): String {
        val line = before.lastIndexOf('\n') + 1
        val strips = (line > 0 || lineStarts) && before.substring(line).all(::isBlank)
        return if (strips) before.substring(0, line) else before
    }

    /** After the end of a tag at [end]: a sign of -, or one line break. */
    private fun close(end: Int, length: Int, trims: Boolean) {
        val stripped = end > 0 && text[end - 1] == '-'
        val kept = end > 0 && text[end - 1] == '+'
        at = end + length
        val begun = at
        if (stripped) {
            while (at < text.length && isBlank(text[at])) at++
        } else if (trims && !kept && text.getOrElse(at) { ' ' } == '\n') {
            at++
        }
        lineStarts = at > begun && text[at - 1] == '\n'
    }

    private fun comment() {
        val end = text.indexOf("#}", at)
        if (end < 0) throw TemplateError("a comment has no end")
        close(end, 2, trims = true)
    }

    private fun raw(): Boolean {
        val begin = RAW.matchAt(text, at) ?: return false
        val end = END_RAW.find(text, begin.range.last + 1) ?: throw TemplateError("raw has no end")
        add(TokenKind.TEXT, text.substring(begin.range.last + 1, end.range.first))
        close(end.range.last - 1, 2, trims = true)
        return true
    }

    private fun tag(end: String, begins: TokenKind, ends: TokenKind) {
        add(begins, text.substring(at - 2, at))
        var depth = 0
        while (true) {
            while (at < text.length && isBlank(text[at])) at++
            if (at >= text.length) throw TemplateError("a tag has no end")
            val signed = text[at] in "-+" && text.startsWith(end, at + 1)
            if (depth == 0 && (signed || text.startsWith(end, at))) {
                add(ends, end)
                close(if (signed) at + 1 else at, 2, trims = ends == TokenKind.BLOCK_END)
                return
            }
            val token = token()
            if (token.kind == TokenKind.OPERATOR && token.text in "([{") depth++
            if (token.kind == TokenKind.OPERATOR && token.text in ")]}") depth--
            tokens += token
        }
    }

    private fun token(): Token {
        for ((kind, pattern) in PATTERNS) {
            val found = pattern.matchAt(text, at) ?: continue
            at += found.value.length
            return Token(kind, if (kind == TokenKind.STRING) unescaped(found.value.substring(1, found.value.length - 1)) else found.value)
        }
        throw TemplateError("unexpected character '${text[at]}'")
    }

    private companion object {
        val RAW = Regex("\\s*raw\\s*-?%\\}")
        val END_RAW = Regex("\\{%[-+]?\\s*endraw\\s*[-+]?%\\}")
        val PATTERNS = listOf(
            TokenKind.NAME to Regex("[\\p{L}_][\\p{L}\\p{N}_]*"),
            TokenKind.FLOAT to Regex("[0-9]+(\\.[0-9]+)?[eE][+-]?[0-9]+|[0-9]+\\.[0-9]+"),
            TokenKind.INTEGER to Regex("[0-9]+"),
            TokenKind.STRING to Regex("'(?:[^'\\\\]|\\\\.)*'|\"(?:[^\"\\\\]|\\\\.)*\"", RegexOption.DOT_MATCHES_ALL),
            TokenKind.OPERATOR to Regex("\\*\\*|//|==|!=|>=|<=|[-+*/%~\\[\\](){}=<>.:|,]"),
        )

        fun unescaped(text: String) = Regex("\\\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", RegexOption.DOT_MATCHES_ALL).replace(text) { found ->
            val escape = found.groupValues[1]
            when (escape[0]) {
                'n' -> "\n"
                't' -> "\t"
                'r' -> "\r"
                'u', 'x' -> if (escape.length > 1) escape.substring(1).toInt(16).toChar().toString() else "\\$escape"
                '\\', '\'', '"' -> escape
                '\n' -> ""
                else -> "\\$escape"
            }
        }
    }
}

internal fun isBlank(character: Char) = character.isWhitespace()
