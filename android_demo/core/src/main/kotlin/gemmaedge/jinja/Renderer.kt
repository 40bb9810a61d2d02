package gemmaedge.jinja

/** Names, those of a loop or a macro in front of those around it. */
private class Scope(private val around: Scope?, val values: MutableMap<String, Any?> = HashMap()) {
    fun find(name: String): Any? {
        var scope: Scope? = this
        while (scope != null) {
            if (name in scope.values) return scope.values[name]
            scope = scope.around
        }
        return Undefined(name)
    }
}

private enum class Flow { ON, BREAK, CONTINUE }

/** Runs statements, with bounds on the work and the text of a hostile template. */
internal class Renderer {
    private var steps = 0
    private var depth = 0
    private var out = StringBuilder()

    fun template(statements: List<Statement>, variables: Map<String, Any?>): String {
        val globals = Scope(null, HashMap(globals()))
        run(statements, Scope(globals, HashMap(variables)))
        return out.toString()
    }

    private fun run(statements: List<Statement>, scope: Scope): Flow {
        for (statement in statements) {
            step()
            val flow = when (statement) {
                is Output -> Flow.ON.also { write(statement.text) }
                is Print -> Flow.ON.also { write(text(evaluate(statement.value, scope))) }
                is Block -> Flow.ON.also { write(captured(statement.body, Scope(scope))) }
                is If -> runIf(statement, scope)
                is For -> Flow.ON.also { runFor(statement, scope) }
                is Set -> Flow.ON.also { assign(statement, scope) }
                is Capture -> Flow.ON.also { scope.values[statement.name] = captured(statement.body, Scope(scope)) }
                is Macro -> Flow.ON.also { scope.values[statement.name] = Callable { call(statement, scope, it) } }
                Break -> Flow.BREAK
                Continue -> Flow.CONTINUE
            }
            if (flow != Flow.ON) return flow
        }
        return Flow.ON
    }

    private fun step() {
        if (++steps > MOST_STEPS) throw TemplateError("the template does not end")
    }

    private fun write(text: String) {
        if (out.length + text.length > LONGEST) throw TemplateError("the template writes too much")
        out.append(text)
    }

    private fun captured(body: List<Statement>, scope: Scope): String {
        val before = out
        out = StringBuilder()
        run(body, scope)
        return out.toString().also { out = before }
    }

    private fun runIf(statement: If, scope: Scope): Flow {
        val chosen = statement.branches.firstOrNull { (condition, _) -> truth(evaluate(condition, scope)) }
        return run(chosen?.second ?: statement.otherwise, scope)
    }

    private fun runFor(loop: For, scope: Scope) {
        val values = iterate(evaluate(loop.over, scope)).filter { value ->
            loop.filter == null || truth(evaluate(loop.filter, Scope(scope).also { bind(loop.targets, value, it) }))
        }
        if (values.isEmpty()) run(loop.otherwise, Scope(scope))
        for (index in values.indices) {
            step()
            val inner = Scope(scope)
            inner.values["loop"] = place(index, values)
            bind(loop.targets, values[index], inner)
            if (run(loop.body, inner) == Flow.BREAK) break
        }
    }

    private fun place(index: Int, values: List<Any?>): Map<String, Any?> = mapOf(
        "index0" to index.toLong(), "index" to index + 1L, "first" to (index == 0), "last" to (index == values.size - 1),
        "length" to values.size.toLong(), "revindex" to (values.size - index).toLong(), "revindex0" to values.size - index - 1L,
        "previtem" to (if (index > 0) values[index - 1] else Undefined("previtem")),
        "nextitem" to (if (index + 1 < values.size) values[index + 1] else Undefined("nextitem")),
    )

    private fun bind(names: List<String>, value: Any?, scope: Scope) {
        if (names.size == 1) {
            scope.values[names[0]] = value
            return
        }
        val parts = iterate(value)
        if (parts.size != names.size) throw TemplateError("${parts.size} values for ${names.size} names")
        names.zip(parts) { name, part -> scope.values[name] = part }
    }

    private fun assign(statement: Set, scope: Scope) {
        val value = evaluate(statement.value, scope)
        if (statement.attribute == null) return bind(statement.names, value, scope)
        val space = scope.find(statement.names.single()) as? Namespace ?: throw TemplateError("only attributes of a namespace can be set")
        space.values[statement.attribute] = value
    }

    private fun call(macro: Macro, scope: Scope, arguments: Arguments): String {
        if (++depth > DEEPEST) throw TemplateError("macros call each other too deep")
        if (arguments.ordered.size > macro.parameters.size) throw TemplateError("too many arguments for ${macro.name}")
        val unknown = arguments.named.keys - macro.parameters.map { it.first }.toSet()
        if (unknown.isNotEmpty()) throw TemplateError("${macro.name} has no argument ${unknown.first()}")
        val inner = Scope(scope)
        macro.parameters.forEachIndexed { index, (name, default) ->
            val given = index < arguments.ordered.size || name in arguments.named
            inner.values[name] = if (given) arguments.at(index, name) else default?.let { evaluate(it, inner) } ?: absent(name, default)
        }
        return captured(macro.body, inner).also { depth-- }
    }

    private fun absent(name: String, default: Expression?) = if (default == null) Undefined(name) else null

    // ---- expressions ----

    private fun evaluate(node: Expression, scope: Scope): Any? {
        step()
        return when (node) {
            is Constant -> node.value
            is Name -> scope.find(node.name)
            is ListOf -> node.items.map { evaluate(it, scope) }
            is MapOf -> node.items.associate { (key, value) -> evaluate(key, scope) to evaluate(value, scope) }
            is Unary -> unary(node.operator, evaluate(node.operand, scope))
            is Binary -> binary(node, scope)
            is Comparison -> comparison(node, scope)
            is Conditional -> conditional(node, scope)
            is Attribute -> attribute(evaluate(node.of, scope), node.name)
            is Item -> item(evaluate(node.of, scope), evaluate(node.key, scope))
            is Slice -> slice(
                evaluate(node.of, scope), node.start?.let { evaluate(it, scope) },
                node.stop?.let { evaluate(it, scope) }, node.step?.let { evaluate(it, scope) },
            )
            is Call -> callee(evaluate(node.of, scope)).call(arguments(node.arguments, scope))
            is Filter -> filter(node.name).call(arguments(node.arguments, scope, evaluate(node.of, scope)))
            is Test -> test(node.name).call(arguments(node.arguments, scope, evaluate(node.of, scope)))
        }
    }

    private fun callee(value: Any?) = value as? Callable ?: throw TemplateError("${typeName(value)} can not be called")

    private fun arguments(given: Given, scope: Scope, vararg first: Any?): Arguments = Arguments(
        first.toList() + given.ordered.map { evaluate(it, scope) },
        given.named.associate { (name, value) -> name to evaluate(value, scope) },
    )

    private fun unary(operator: String, value: Any?): Any? = when (operator) {
        "not" -> !truth(value)
        "-" -> negate(value)
        else -> if (isNumber(value)) value else throw TemplateError("${typeName(value)} where a number is wanted")
    }

    private fun binary(node: Binary, scope: Scope): Any? {
        val left = evaluate(node.left, scope)
        if (node.operator == "or") return if (truth(left)) left else evaluate(node.right, scope)
        if (node.operator == "and") return if (truth(left)) evaluate(node.right, scope) else left
        val right = evaluate(node.right, scope)
        val made = when (node.operator) {
            "+" -> add(left, right)
            "-" -> subtract(left, right)
            "*" -> multiply(left, right)
            "/" -> divide(left, right)
            "//" -> floorDivide(left, right)
            "%" -> modulo(left, right)
            "**" -> power(left, right)
            else -> text(left) + text(right)
        }
        if (made is String && made.length > LONGEST) throw TemplateError("a text too long")
        return made
    }

    private fun comparison(node: Comparison, scope: Scope): Boolean {
        var left = evaluate(node.first, scope)
        for ((operator, operand) in node.rest) {
            val right = evaluate(operand, scope)
            if (!compares(operator, left, right)) return false
            left = right
        }
        return true
    }

    private fun conditional(node: Conditional, scope: Scope): Any? = when {
        truth(evaluate(node.condition, scope)) -> evaluate(node.value, scope)
        node.otherwise != null -> evaluate(node.otherwise, scope)
        else -> Undefined("the other branch")
    }

    private companion object {
        const val MOST_STEPS = 5_000_000
        const val LONGEST = 1 shl 26
        const val DEEPEST = 100
    }
}

internal fun compares(operator: String, left: Any?, right: Any?): Boolean = when (operator) {
    "==" -> equal(left, right)
    "!=" -> !equal(left, right)
    "in" -> contains(right, left)
    "not in" -> !contains(right, left)
    "<" -> order(left, right) < 0
    "<=" -> order(left, right) <= 0
    ">" -> order(left, right) > 0
    else -> order(left, right) >= 0
}
