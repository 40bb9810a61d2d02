package gemmaedge.core

/** Something that the person who runs this can act on: what is wrong, with its value, and what to do. */
class GemmaError(message: String, val hint: String = "", cause: Throwable? = null) : Exception(message, cause) {
    val sentence get() = message.orEmpty()

    override fun toString() = if (hint.isEmpty()) sentence else "$sentence; $hint"
}

const val FETCH_AGAIN = "the copy may be incomplete or damaged; fetch or export the bundle again"
const val EXPORT_AGAIN = "export the bundle again"

/** A name as Python shows it, so that both say the same sentence. */
fun quoted(name: String): String {
    val shown = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return if ('\'' in shown && '"' !in shown) "\"$shown\"" else "'${shown.replace("'", "\\'")}'"
}
