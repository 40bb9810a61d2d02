package gemmaedge.jinja

import java.time.LocalDateTime
import java.time.format.DateTimeFormatter
import java.util.Locale

/** A test by its name, as in `x is defined`. */
internal fun test(name: String): Callable = TESTS[name] ?: throw TemplateError("a test '$name', which this reader does not know")

private val TESTS: Map<String, Callable> = mapOf(
    "defined" to Callable { it.ordered[0] !is Undefined },
    "undefined" to Callable { it.ordered[0] is Undefined },
    "none" to Callable { it.ordered[0] == null },
    "string" to Callable { it.ordered[0] is String },
    "mapping" to Callable { it.ordered[0] is Map<*, *> },
    "sequence" to Callable { given -> given.ordered[0].let { it is List<*> || it is String || it is Map<*, *> } },
    "iterable" to Callable { given -> given.ordered[0].let { it is List<*> || it is String || it is Map<*, *> || it is Undefined } },
    "boolean" to Callable { it.ordered[0] is Boolean },
    "number" to Callable { isNumber(it.ordered[0]) },
    "integer" to Callable { given -> given.ordered[0].let { isInteger(it) && it !is Boolean } },
    "float" to Callable { it.ordered[0] is Double },
    "true" to Callable { it.ordered[0] == true },
    "false" to Callable { it.ordered[0] == false },
    "odd" to Callable { big(it.ordered[0]).testBit(0) },
    "even" to Callable { !big(it.ordered[0]).testBit(0) },
    "callable" to Callable { it.ordered[0] is gemmaedge.jinja.Callable },
    "divisibleby" to Callable { equal(modulo(it.ordered[0], it.at(1, "num")), 0L) },
    "in" to Callable { compares("in", it.ordered[0], it.at(1, "seq")) },
    "equalto" to compared("=="), "eq" to compared("=="), "ne" to compared("!="),
    "lt" to compared("<"), "le" to compared("<="), "gt" to compared(">"), "ge" to compared(">="),
)

private fun compared(operator: String) = Callable { compares(operator, it.ordered[0], it.at(1, "other")) }

private const val LONGEST_RANGE = 100_000

/** The functions that every template may call. */
internal fun globals(): Map<String, Any?> = mapOf(
    "range" to Callable { range(it.ordered.map { one -> big(one).toInt() }) },
    "namespace" to Callable { Namespace(HashMap(it.named)) },
    "dict" to Callable { LinkedHashMap<Any?, Any?>(it.named) },
    "raise_exception" to Callable { throw TemplateError(text(it.at(0, "message"))) },
    "strftime_now" to Callable { strftime(it.text(0, "format")) },
)

private fun range(bounds: List<Int>): List<Long> {
    val (start, stop) = if (bounds.size == 1) 0 to bounds[0] else bounds[0] to bounds[1]
    val step = bounds.getOrElse(2) { 1 }
    if (step == 0) throw TemplateError("a range of step 0")
    val count = ((stop.toLong() - start + step + (if (step > 0) -1 else 1)) / step).coerceAtLeast(0)
    if (count > LONGEST_RANGE) throw TemplateError("a range of $count numbers")
    return List(count.toInt()) { start + it.toLong() * step }
}

private fun strftime(format: String): String {
    val now = LocalDateTime.now()
    return Regex("%([a-zA-Z%])").replace(format) { found ->
        val pattern = STRFTIME[found.groupValues[1]] ?: throw TemplateError("a date's part '${found.value}', which this reader does not know")
        if (pattern == "%") "%" else DateTimeFormatter.ofPattern(pattern, Locale.ENGLISH).format(now)
    }
}

private val STRFTIME = mapOf(
    "d" to "dd", "m" to "MM", "Y" to "yyyy", "y" to "yy", "B" to "MMMM", "b" to "MMM", "A" to "EEEE", "a" to "EEE",
    "H" to "HH", "I" to "hh", "M" to "mm", "S" to "ss", "p" to "a", "j" to "DDD", "%" to "%",
)
