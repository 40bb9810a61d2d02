package gemmaedge.jinja

/** Attributes, items and slices; an attribute of the implementation's own is never reached. */
internal fun attribute(of: Any?, name: String): Any? {
    if (of is Undefined) throw TemplateError("'${of.name}' is undefined")
    if (name.startsWith("_")) throw TemplateError("the attribute '$name' is not safe")
    method(of, name)?.let { return it }
    return when {
        of is Namespace && name in of.values -> of.values[name]
        of is Map<*, *> && of.containsKey(name) -> of[name]
        else -> Undefined(name)
    }
}

internal fun item(of: Any?, key: Any?): Any? = when {
    of is Undefined -> throw TemplateError("'${of.name}' is undefined")
    of is Map<*, *> && of.containsKey(key) -> of[key]
    of is List<*> && isInteger(key) -> place(of, key)?.let { of[it] } ?: outside(of, key)
    of is String && isInteger(key) -> characters(of).let { all -> place(all, key)?.let { all[it] } } ?: Undefined(text(key))
    key is String -> attribute(of, key)
    else -> Undefined(text(key))
}

/** An entry that is None, or one that is not there. */
private fun outside(of: List<*>, key: Any?): Any? = if (place(of, key) == null) Undefined(text(key)) else null

private fun place(of: List<*>, key: Any?): Int? {
    val index = big(key).let { if (it.signum() < 0) it + of.size.toBigInteger() else it }
    return if (index.bitLength() < 31 && index.toInt() in of.indices) index.toInt() else null
}

internal fun slice(of: Any?, start: Any?, stop: Any?, step: Any?): Any? {
    val values = if (of is String) characters(of) else of as? List<*> ?: throw TemplateError("${typeName(of)} can not be sliced")
    val stride = if (step == null) 1 else big(step).toInt()
    if (stride == 0) throw TemplateError("a slice of step 0")
    val size = values.size
    val lowest = if (stride > 0) 0 else -1
    val highest = if (stride > 0) size else size - 1
    fun clamped(value: Any?, default: Int): Int {
        if (value == null) return default
        val index = big(value)
        return (if (index.signum() < 0) index + size.toBigInteger() else index)
            .max(lowest.toBigInteger()).min(highest.toBigInteger()).toInt()
    }
    val from = clamped(start, if (stride > 0) 0 else size - 1)
    val to = clamped(stop, if (stride > 0) size else -1)
    val places = if (stride > 0) from until to step stride else (from downTo to + 1 step -stride)
    val taken = places.map { values[it] }
    return if (of is String) taken.joinToString("") else taken
}
