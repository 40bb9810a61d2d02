package gemmaedge.jinja

import java.math.BigInteger

/** A name or a part that is not there: empty as text, an error in most uses. */
internal class Undefined(val name: String)

/** Attributes that a template may set. */
internal class Namespace(val values: MutableMap<String, Any?>)

/** Something that a template can call, with values in order and by name. */
internal fun interface Callable {
    fun call(arguments: Arguments): Any?
}

internal class Arguments(val ordered: List<Any?>, val named: Map<String, Any?>) {
    fun at(index: Int, name: String, default: Any? = null): Any? =
        if (index < ordered.size) ordered[index] else if (name in named) named[name] else default

    fun text(index: Int, name: String): String = asText(at(index, name, Undefined(name)))
}

internal fun asText(value: Any?) = value as? String ?: throw TemplateError("${typeName(value)} where text is wanted")

internal fun typeName(value: Any?) = when (value) {
    null -> "None"
    is Undefined -> "'${value.name}' is undefined,"
    is String -> "text"
    is Boolean -> "a boolean"
    is Long, is BigInteger -> "an integer"
    is Double -> "a float"
    is Map<*, *> -> "a mapping"
    is List<*> -> "a list"
    else -> "an object"
}

internal fun truth(value: Any?): Boolean = when (value) {
    null, is Undefined -> false
    is Boolean -> value
    is Number -> value.toDouble() != 0.0
    is String -> value.isNotEmpty()
    is List<*> -> value.isNotEmpty()
    is Map<*, *> -> value.isNotEmpty()
    else -> true
}

/** As Python's str. */
internal fun text(value: Any?): String = when (value) {
    is String -> value
    is Undefined -> ""
    else -> representation(value)
}

/** As Python's repr. */
internal fun representation(value: Any?): String = when (value) {
    null -> "None"
    true -> "True"
    false -> "False"
    is String -> quotedText(value)
    is Double -> floatText(value)
    is Number -> value.toString()
    is Map<*, *> -> value.entries.joinToString(", ", "{", "}") { "${representation(it.key)}: ${representation(it.value)}" }
    is List<*> -> value.joinToString(", ", "[", "]") { representation(it) }
    is Undefined -> "Undefined"
    else -> throw TemplateError("${typeName(value)} has no text")
}

private fun quotedText(value: String): String {
    val quote = if ('\'' in value && '"' !in value) '"' else '\''
    val made = StringBuilder().append(quote)
    for (character in value) {
        when {
            character == quote || character == '\\' -> made.append('\\').append(character)
            character == '\n' -> made.append("\\n")
            character == '\r' -> made.append("\\r")
            character == '\t' -> made.append("\\t")
            character < ' ' || character in '\u007f'..'\u00a0' || character == '\u00ad' -> made.append("\\x%02x".format(character.code))
            else -> made.append(character)
        }
    }
    return made.append(quote).toString()
}

/** The fewest digits that give the number back, in Python's form. */
internal fun floatText(value: Double): String {
    if (value.isNaN()) return "nan"
    if (value.isInfinite()) return if (value > 0) "inf" else "-inf"
    if (value == 0.0) return if (1 / value < 0) "-0.0" else "0.0"
    val shortest = (1..17).firstNotNullOf { digits -> "%.${digits - 1}e".format(java.util.Locale.ROOT, value).takeIf { it.toDouble() == value } }
    val (mantissa, power) = shortest.split("e")
    val exponent = power.toInt()
    if (exponent < -4 || exponent >= 16) {
        val trimmed = if ('.' in mantissa) mantissa.trimEnd('0').trimEnd('.') else mantissa
        return "%se%s%02d".format(trimmed, if (exponent < 0) "-" else "+", kotlin.math.abs(exponent))
    }
    val plain = java.math.BigDecimal(shortest).toPlainString()
    return if ('.' in plain) plain.trimEnd('0').let { if (it.endsWith('.')) it + "0" else it } else "$plain.0"
}

internal fun big(value: Any?): BigInteger = when (value) {
    is Boolean -> if (value) BigInteger.ONE else BigInteger.ZERO
    is Long -> BigInteger.valueOf(value)
    is BigInteger -> value
    else -> throw TemplateError("${typeName(value)} where an integer is wanted")
}

/** The narrower of the two kinds of integers. */
internal fun narrow(value: BigInteger): Any = if (value.bitLength() < 64) value.toLong() else value

internal fun isInteger(value: Any?) = value is Long || value is BigInteger || value is Boolean

internal fun isNumber(value: Any?) = isInteger(value) || value is Double

internal fun float(value: Any?): Double = when (value) {
    is Boolean -> if (value) 1.0 else 0.0
    is Number -> value.toDouble()
    else -> throw TemplateError("${typeName(value)} where a number is wanted")
}

internal fun equal(a: Any?, b: Any?): Boolean = when {
    isInteger(a) && isInteger(b) -> big(a) == big(b)
    isNumber(a) && isNumber(b) -> float(a) == float(b)
    a is List<*> && b is List<*> -> a.size == b.size && a.indices.all { equal(a[it], b[it]) }
    a is Map<*, *> && b is Map<*, *> -> a.size == b.size && a.all { (key, value) -> b.containsKey(key) && equal(value, b[key]) }
    a is Undefined -> b is Undefined
    else -> a == b
}

/** Below 0, 0 or above, or an error for what has no order. */
internal fun order(a: Any?, b: Any?): Int = when {
    isInteger(a) && isInteger(b) -> big(a).compareTo(big(b))
    isNumber(a) && isNumber(b) -> float(a).compareTo(float(b))
    a is String && b is String -> compareCodePoints(a, b)
    a is List<*> && b is List<*> -> a.indices.firstNotNullOfOrNull { at ->
        if (at >= b.size) 1 else order(a[at], b[at]).takeIf { it != 0 }
    } ?: a.size.compareTo(b.size)
    else -> throw TemplateError("${typeName(a)} and ${typeName(b)} have no order")
}

private fun compareCodePoints(a: String, b: String): Int {
    val left = a.codePoints().toArray()
    val right = b.codePoints().toArray()
    for (at in 0 until minOf(left.size, right.size)) if (left[at] != right[at]) return left[at].compareTo(right[at])
    return left.size.compareTo(right.size)
}

/** The values of a loop; of a mapping its keys, of a text its characters. */
internal fun iterate(value: Any?): List<Any?> = when (value) {
    is List<*> -> value
    is Map<*, *> -> value.keys.toList()
    is String -> characters(value)
    is Undefined -> emptyList()
    else -> throw TemplateError("${typeName(value)} can not be looped over")
}

internal fun characters(text: String): List<String> = text.codePoints().toArray().map { String(Character.toChars(it)) }

internal fun contains(container: Any?, value: Any?): Boolean = when (container) {
    is String -> asText(value) in container
    is Map<*, *> -> container.containsKey(value)
    is List<*> -> container.any { equal(it, value) }
    is Undefined -> false
    else -> throw TemplateError("${typeName(container)} holds nothing")
}

internal fun length(value: Any?): Long = when (value) {
    is String -> value.codePointCount(0, value.length).toLong()
    is List<*> -> value.size.toLong()
    is Map<*, *> -> value.size.toLong()
    is Undefined -> 0
    else -> throw TemplateError("${typeName(value)} has no length")
}
