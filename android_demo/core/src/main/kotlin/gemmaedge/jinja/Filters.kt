package gemmaedge.jinja

/** A filter by its name: its first argument is what it is applied to. */
internal fun filter(name: String): Callable = FILTERS[name] ?: throw TemplateError("a filter '$name', which this reader does not know")

private val FILTERS: Map<String, Callable> = mapOf(
    "trim" to Callable { stripped(text(it.ordered[0]), it.at(1, "chars"), left = true, right = true) },
    "upper" to Callable { text(it.ordered[0]).uppercase() },
    "lower" to Callable { text(it.ordered[0]).lowercase() },
    "title" to Callable { title(text(it.ordered[0])) },
    "capitalize" to Callable { capitalized(text(it.ordered[0])) },
    "string" to Callable { text(it.ordered[0]) },
    "safe" to Callable { it.ordered[0] },
    "length" to Callable { length(it.ordered[0]) },
    "count" to Callable { length(it.ordered[0]) },
    "list" to Callable { iterate(it.ordered[0]) },
    "items" to Callable { (it.ordered[0] as? Map<*, *>).orEmpty().entries.map { (key, value) -> listOf(key, value) } },
    "int" to Callable { int(it.ordered[0], it.at(1, "default", 0L)) },
    "float" to Callable { given -> given.ordered[0].let { if (it is String) it.toDoubleOrNull() ?: 0.0 else float(it) } },
    "first" to Callable { iterate(it.ordered[0]).let { all -> if (all.isEmpty()) Undefined("first") else all.first() } },
    "last" to Callable { iterate(it.ordered[0]).let { all -> if (all.isEmpty()) Undefined("last") else all.last() } },
    "reverse" to Callable { given -> given.ordered[0].let { if (it is String) characters(it).reversed().joinToString("") else iterate(it).reversed() } },
    "join" to Callable { iterate(it.ordered[0]).joinToString(text(it.at(1, "d", "")), transform = ::text) },
    "replace" to Callable { text(it.ordered[0]).replace(it.text(1, "old"), it.text(2, "new")) },
    "sort" to Callable { given -> iterate(given.ordered[0]).sortedWith { a, b -> order(folded(a), folded(b)) } },
    "unique" to Callable { given -> iterate(given.ordered[0]).distinctBy { folded(it) } },
    "dictsort" to Callable { dictsort(it.ordered[0]) },
    "default" to Callable(::default),
    "d" to Callable(::default),
    "tojson" to Callable { toJson(it.ordered[0], it.at(1, "indent") ?: it.named["indent"]) },
    "map" to Callable(::mapped),
    "select" to Callable { chosen(it, attribute = false, wanted = true) },
    "reject" to Callable { chosen(it, attribute = false, wanted = false) },
    "selectattr" to Callable { chosen(it, attribute = true, wanted = true) },
    "rejectattr" to Callable { chosen(it, attribute = true, wanted = false) },
)

private fun default(given: Arguments): Any? {
    val value = given.ordered[0]
    val empty = truth(given.at(2, "boolean", false)) && !truth(value)
    return if (value is Undefined || empty) given.at(1, "default_value", "") else value
}

private fun int(value: Any?, default: Any?): Any? = when (value) {
    is String -> value.trim().toBigIntegerOrNull()?.let(::narrow) ?: value.toDoubleOrNull()?.toLong() ?: default
    is Double -> value.toLong()
    else -> if (isInteger(value)) narrow(big(value)) else default
}

/** Texts are sorted without regard to case. */
private fun folded(value: Any?): Any? = if (value is String) value.lowercase() else value

private fun dictsort(value: Any?): List<Any?> {
    val mapping = value as? Map<*, *> ?: throw TemplateError("${typeName(value)} where a mapping is wanted")
    return mapping.entries.map { (key, one) -> listOf(key, one) }.sortedWith { a, b -> order(folded(a[0]), folded(b[0])) }
}

private fun mapped(given: Arguments): List<Any?> {
    val values = iterate(given.ordered[0])
    val attribute = given.named["attribute"]
    if (attribute != null) return values.map { item(it, attribute) }
    val filter = filter(given.text(1, "filter"))
    return values.map { filter.call(Arguments(listOf(it) + given.ordered.drop(2), given.named)) }
}

private fun chosen(given: Arguments, attribute: Boolean, wanted: Boolean): List<Any?> {
    val rest = given.ordered.drop(if (attribute) 2 else 1)
    val test = if (rest.isEmpty()) null else test(asText(rest[0]))
    return iterate(given.ordered[0]).filter { value ->
        val tested = if (attribute) item(value, given.ordered[1]) else value
        wanted == if (test == null) truth(tested) else truth(test.call(Arguments(listOf(tested) + rest.drop(1), emptyMap())))
    }
}

private fun toJson(value: Any?, indent: Any?): String {
    val made = StringBuilder()
    writeJson(value, if (indent == null) -1 else big(indent).toInt().coerceIn(0, 100), 0, made)
    return made.toString()
}

private fun writeJson(value: Any?, indent: Int, depth: Int, out: StringBuilder) {
    when (value) {
        null -> out.append("null")
        is Boolean -> out.append(value)
        is String -> jsonText(value, out)
        is Double -> out.append(floatText(value))
        is Number -> out.append(value)
        is List<*> -> writeAll(value, '[', ']', indent, depth, out) { writeJson(it, indent, depth + 1, out) }
        is Map<*, *> -> writeAll(value.entries, '{', '}', indent, depth, out) { (key, one) ->
            jsonText(text(key), out)
            out.append(": ")
            writeJson(one, indent, depth + 1, out)
        }
        else -> throw TemplateError("${typeName(value)} has no JSON")
    }
}

private fun <T> writeAll(all: Collection<T>, open: Char, close: Char, indent: Int, depth: Int, out: StringBuilder, write: (T) -> Unit) {
    fun line(deep: Int) {
        if (indent >= 0) out.append('\n').append(" ".repeat(indent * deep))
    }
    out.append(open)
    all.forEachIndexed { index, one ->
        if (index > 0) out.append(if (indent >= 0) "," else ", ")
        line(depth + 1)
        write(one)
    }
    if (all.isNotEmpty()) line(depth)
    out.append(close)
}

private fun jsonText(value: String, out: StringBuilder) {
    out.append('"')
    for (character in value) {
        when {
            character == '"' || character == '\\' -> out.append('\\').append(character)
            character == '\n' -> out.append("\\n")
            character == '\r' -> out.append("\\r")
            character == '\t' -> out.append("\\t")
            character == '\b' -> out.append("\\b")
            character == '\u000c' -> out.append("\\f")
            character < ' ' -> out.append("\\u%04x".format(character.code))
            else -> out.append(character)
        }
    }
    out.append('"')
}
