package gemmaedge.core

/** Tokens that are matched before anything is merged, by text; at each place of a text the longest. */
class AddedTokens(private val ids: Map<String, Int>) {
    /** Lengths of the tokens that begin with a character, the longest first. */
    private val lengths = ids.keys.filter(String::isNotEmpty).groupBy { it[0] }
        .mapValues { (_, texts) -> texts.map(String::length).distinct().sortedDescending() }

    private val sorted = ids.keys.sorted()
    private val longest = sorted.maxOfOrNull(String::length) ?: 0

    val texts get() = ids.keys

    /** The id of a token, or -1. */
    fun idOf(text: String) = ids[text] ?: -1

    /** The length of the token at a place, or 0. */
    fun lengthAt(text: String, at: Int): Int =
        lengths[text[at]]?.firstOrNull { at + it <= text.length && text.substring(at, at + it) in ids } ?: 0

    /** Whether a text, to where it ends, is how a token begins that goes on after it. */
    fun goesOn(text: String, at: Int, end: Int): Boolean {
        if (end <= at || end - at >= longest || text[at] !in lengths) return false
        val begun = text.substring(at, end)
        val next = sorted.binarySearch(begun).let { if (it >= 0) it + 1 else -it - 1 }
        return next < sorted.size && sorted[next].startsWith(begun)
    }

    /** Give each token of a text to [token], and what lies between them to [between], in their order. */
    fun cut(text: String, between: (String) -> Unit, token: (String) -> Unit) {
        var start = 0
        var at = 0
        while (at < text.length) {
            val length = lengthAt(text, at)
            if (length == 0) {
                at++
                continue
            }
            between(text.substring(start, at))
            token(text.substring(at, at + length))
            at += length
            start = at
        }
        between(text.substring(start))
    }

    /** The tokens of a text, one after another. */
    fun within(text: String): List<String> = ArrayList<String>().also { cut(text, {}, it::add) }
}
