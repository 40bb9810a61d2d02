package gemmaedge.core

private const val FIRST_MARK = 0xFDD0 // to U+FDEF: Unicode promises that these are never characters
private const val MARKS = 32

/**
 * Hides control tokens in the texts of messages while a template renders, so that only what the template itself writes
 * becomes a token: a mark stands for the first character of each. Throws [GemmaError] for a vocabulary whose control
 * tokens begin with more different characters than there are marks.
 */
class ControlMask(private val control: AddedTokens) {
    private val firsts = control.texts.filter(String::isNotEmpty).map { it.codePointAt(0) }.distinct().sorted()

    init {
        if (firsts.size > MARKS) {
            throw GemmaError("control tokens begin with ${firsts.size} different characters, $MARKS at most can be read", EXPORT_AGAIN)
        }
    }

    /**
     * Tokens in [kept] stay; a mark that a text holds already becomes U+FFFD. The beginning of a token at the end of a
     * text is hidden too: a template may trim it and write the rest, or another text, after it.
     */
    fun hide(text: String, kept: Set<String> = emptySet()): String {
        val hidden = StringBuilder()
        val end = text.trimEnd().length
        var at = 0
        while (at < text.length) {
            val length = control.lengthAt(text, at)
            if (length > 0 && text.substring(at, at + length) in kept) {
                hidden.append(text, at, at + length)
                at += length
            } else if (length > 0 || control.goesOn(text, at, end)) {
                // Only the first character: another token may begin within this one.
                hidden.append(markOf(text.codePointAt(at)))
                at += Character.charCount(text.codePointAt(at))
            } else {
                hidden.append(if (isMark(text[at])) '\uFFFD' else text[at])
                at++
            }
        }
        return hidden.toString()
    }

    /** The text with the characters that marks stand for. */
    fun show(text: String): String {
        if (text.none(::isMark)) return text
        val shown = StringBuilder()
        for (character in text) if (isMark(character)) shown.appendCodePoint(firsts[character.code - FIRST_MARK]) else shown.append(character)
        return shown.toString()
    }

    private fun markOf(first: Int) = (FIRST_MARK + firsts.indexOf(first)).toChar()

    private fun isMark(character: Char) = character.code - FIRST_MARK in firsts.indices
}
