package gemmaedge.jinja

/** What Python's texts and mappings can do, as far as templates ask. */
internal fun method(of: Any?, name: String): Callable? = when (of) {
    is String -> textMethod(of, name)
    is Map<*, *> -> mappingMethod(of, name)
    is List<*> -> if (name == "index") Callable { one -> of.indexOfFirst { equal(it, one.at(0, "value")) }.toLong() } else null
    else -> null
}

private fun mappingMethod(of: Map<*, *>, name: String): Callable? = when (name) {
    "get" -> Callable { if (of.containsKey(it.at(0, "key"))) of[it.at(0, "key")] else it.at(1, "default") }
    "items" -> Callable { of.entries.map { (key, value) -> listOf(key, value) } }
    "keys" -> Callable { of.keys.toList() }
    "values" -> Callable { of.values.toList() }
    else -> null
}

private fun textMethod(of: String, name: String): Callable? = when (name) {
    "split" -> Callable { split(of, it.at(0, "sep"), it.at(1, "maxsplit", -1L)) }
    "strip" -> Callable { stripped(of, it.at(0, "chars"), left = true, right = true) }
    "lstrip" -> Callable { stripped(of, it.at(0, "chars"), left = true, right = false) }
    "rstrip" -> Callable { stripped(of, it.at(0, "chars"), left = false, right = true) }
    "startswith" -> Callable { given -> affixes(given).any(of::startsWith) }
    "endswith" -> Callable { given -> affixes(given).any(of::endsWith) }
    "replace" -> Callable { of.replace(it.text(0, "old"), it.text(1, "new")) }
    "upper" -> Callable { of.uppercase() }
    "lower" -> Callable { of.lowercase() }
    "title" -> Callable { title(of) }
    "capitalize" -> Callable { capitalized(of) }
    "find" -> Callable { of.indexOf(it.text(0, "sub")).toLong() }
    "join" -> Callable { given -> iterate(given.at(0, "iterable")).joinToString(of, transform = ::asText) }
    else -> null
}

private fun affixes(given: Arguments): List<String> = when (val affix = given.at(0, "prefix")) {
    is List<*> -> affix.map(::asText)
    else -> listOf(asText(affix))
}

private fun split(of: String, separator: Any?, most: Any?): List<String> {
    val limit = big(most).toInt().let { if (it < 0) 0 else it + 1 }
    if (separator == null) return of.trim(::isBlank).split(Regex("\\s+"), limit).filter { it.isNotEmpty() }
    if (asText(separator).isEmpty()) throw TemplateError("an empty separator")
    return of.split(asText(separator), limit = limit)
}

internal fun stripped(of: String, characters: Any?, left: Boolean, right: Boolean): String {
    val strips: (Char) -> Boolean = if (characters == null) ::isBlank else { it -> it in asText(characters) }
    val begun = if (left) of.trimStart(strips) else of
    return if (right) begun.trimEnd(strips) else begun
}

internal fun title(of: String) = Regex("[\\p{L}]+").replace(of) { capitalized(it.value) }

internal fun capitalized(of: String) = of.take(1).uppercase() + of.drop(1).lowercase()
