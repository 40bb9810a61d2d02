package gemmaedge.jinja

import java.math.BigInteger
import kotlin.math.floor
import kotlin.math.pow

private const val LONGEST = 1L shl 24 // characters or entries that an operator may make

internal fun add(a: Any?, b: Any?): Any? = when {
    a is String && b is String -> a + b
    a is List<*> && b is List<*> -> a + b
    isInteger(a) && isInteger(b) -> narrow(big(a) + big(b))
    isNumber(a) && isNumber(b) -> float(a) + float(b)
    else -> unfit("+", a, b)
}

internal fun subtract(a: Any?, b: Any?): Any? = numbers("-", a, b, BigInteger::minus, Double::minus)

internal fun multiply(a: Any?, b: Any?): Any? = when {
    a is String && isInteger(b) -> a.repeat(times(a.length.toLong(), b))
    isInteger(a) && b is String -> multiply(b, a)
    a is List<*> && isInteger(b) -> List(times(a.size.toLong(), b)) { a }.flatten()
    else -> numbers("*", a, b, BigInteger::times, Double::times)
}

private fun times(size: Long, count: Any?): Int {
    val times = big(count).max(BigInteger.ZERO)
    if (times * BigInteger.valueOf(size) > BigInteger.valueOf(LONGEST)) throw TemplateError("a text too long")
    return times.toInt()
}

internal fun divide(a: Any?, b: Any?): Any? {
    if (!isNumber(a) || !isNumber(b)) unfit("/", a, b)
    if (float(b) == 0.0) throw TemplateError("division by zero")
    return float(a) / float(b)
}

internal fun floorDivide(a: Any?, b: Any?): Any? {
    if (!isNumber(a) || !isNumber(b)) unfit("//", a, b)
    if (float(b) == 0.0) throw TemplateError("division by zero")
    if (!isInteger(a) || !isInteger(b)) return floor(float(a) / float(b))
    val (quotient, rest) = big(a).divideAndRemainder(big(b))
    return narrow(if (rest.signum() != 0 && rest.signum() != big(b).signum()) quotient - BigInteger.ONE else quotient)
}

internal fun modulo(a: Any?, b: Any?): Any? {
    if (!isNumber(a) || !isNumber(b)) unfit("%", a, b)
    if (float(b) == 0.0) throw TemplateError("division by zero")
    if (!isInteger(a) || !isInteger(b)) return float(a) - floor(float(a) / float(b)) * float(b)
    return narrow(big(a) - big(floorDivide(a, b)) * big(b))
}

internal fun power(a: Any?, b: Any?): Any? {
    if (!isNumber(a) || !isNumber(b)) unfit("**", a, b)
    if (!isInteger(a) || !isInteger(b) || big(b).signum() < 0) return float(a).pow(float(b))
    if (big(b).bitLength() > 10) throw TemplateError("a power too large")
    return narrow(big(a).pow(big(b).toInt()))
}

internal fun negate(a: Any?): Any? = if (a is Double) -a else narrow(big(a).negate())

private fun numbers(
    operator: String, a: Any?, b: Any?, whole: (BigInteger, BigInteger) -> BigInteger, real: (Double, Double) -> Double,
): Any? = when {
    isInteger(a) && isInteger(b) -> narrow(whole(big(a), big(b)))
    isNumber(a) && isNumber(b) -> real(float(a), float(b))
    else -> unfit(operator, a, b)
}

private fun unfit(operator: String, a: Any?, b: Any?): Nothing = throw TemplateError("${typeName(a)} $operator ${typeName(b)} has no meaning")
