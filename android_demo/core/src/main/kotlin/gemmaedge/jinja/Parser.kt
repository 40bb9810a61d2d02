package gemmaedge.jinja

/** Tokens to statements. What released templates do not use is refused with its name. */
internal class Parser(private val tokens: List<Token>) {
    private var at = 0
    private var depth = 0
    private val token get() = tokens[at]

    fun template(): List<Statement> = body().also {
        if (token.kind != TokenKind.END) throw TemplateError("$token without its beginning")
    }

    /** Statements up to one of the block names [ends], whose name is left to read. */
    private fun body(vararg ends: String): List<Statement> {
        val statements = ArrayList<Statement>()
        while (true) {
            when (token.kind) {
                TokenKind.TEXT -> statements += Output(next().text)
                TokenKind.PRINT_BEGIN -> {
                    next()
                    statements += Print(tuple())
                    expect(TokenKind.PRINT_END)
                }
                TokenKind.BLOCK_BEGIN -> {
                    if (tokens[at + 1].kind == TokenKind.NAME && tokens[at + 1].text in ends) {
                        next()
                        return statements
                    }
                    next()
                    statements += nested(::statement)
                }
                else -> {
                    if (ends.isNotEmpty()) throw TemplateError("${ends.last()} is missing")
                    return statements
                }
            }
        }
    }

    private fun statement(): Statement {
        val name = expect(TokenKind.NAME).text
        val made = when (name) {
            "if" -> conditional()
            "for" -> loop()
            "set" -> assignment()
            "macro" -> macro()
            "generation" -> generation()
            "break" -> Break
            "continue" -> Continue
            else -> throw TemplateError("a tag '$name', which this reader does not know")
        }
        expect(TokenKind.BLOCK_END)
        return made
    }

    private fun conditional(): Statement {
        val branches = ArrayList<Pair<Expression, List<Statement>>>()
        var otherwise = emptyList<Statement>()
        var condition = tuple()
        while (true) {
            expect(TokenKind.BLOCK_END)
            branches += condition to body("elif", "else", "endif")
            when (next().text) {
                "elif" -> condition = tuple()
                "else" -> {
                    expect(TokenKind.BLOCK_END)
                    otherwise = body("endif")
                    next()
                    break
                }
                else -> break
            }
        }
        return If(branches, otherwise)
    }

    private fun loop(): Statement {
        val targets = names()
        if (!next().isName("in")) throw TemplateError("for without in")
        val over = or()
        val over2 = if (token.isOperator(",")) rest(over) else over
        val filter = if (token.isName("if")) {
            next()
            expression()
        } else {
            null
        }
        expect(TokenKind.BLOCK_END)
        val body = body("else", "endfor")
        if (next().text == "endfor") return For(targets, over2, filter, body, emptyList())
        expect(TokenKind.BLOCK_END)
        val otherwise = body("endfor")
        next()
        return For(targets, over2, filter, body, otherwise)
    }

    private fun assignment(): Statement {
        val names = names()
        if (token.isOperator(".")) {
            next()
            val attribute = expect(TokenKind.NAME).text
            operator("=")
            return Set(names, attribute, tuple())
        }
        if (token.isOperator("=")) {
            next()
            return Set(names, null, tuple())
        }
        expect(TokenKind.BLOCK_END)
        val body = body("endset")
        next()
        return Capture(names.single(), body)
    }

    /** What trainers mark as an assistant's own words: text as any other. */
    private fun generation(): Statement {
        expect(TokenKind.BLOCK_END)
        val body = body("endgeneration")
        next()
        return Block(body)
    }

    private fun macro(): Statement {
        val name = expect(TokenKind.NAME).text
        operator("(")
        val parameters = ArrayList<Pair<String, Expression?>>()
        while (!token.isOperator(")")) {
            if (parameters.isNotEmpty()) operator(",")
            val parameter = expect(TokenKind.NAME).text
            val default = if (token.isOperator("=")) {
                next()
                expression()
            } else {
                null
            }
            parameters += parameter to default
        }
        next()
        expect(TokenKind.BLOCK_END)
        val body = body("endmacro")
        next()
        return Macro(name, parameters, body)
    }

    private fun names(): List<String> {
        val bracketed = token.isOperator("(")
        if (bracketed) next()
        val names = arrayListOf(expect(TokenKind.NAME).text)
        while (token.isOperator(",")) {
            next()
            if (token.kind == TokenKind.NAME) names += next().text
        }
        if (bracketed) operator(")")
        return names
    }

    // ---- expressions, from the loosest to the tightest ----

    private fun tuple(): Expression {
        val first = expression()
        return if (token.isOperator(",")) rest(first) else first
    }

    private fun rest(first: Expression): Expression {
        val items = arrayListOf(first)
        while (token.isOperator(",")) {
            next()
            if (token.kind == TokenKind.PRINT_END || token.kind == TokenKind.BLOCK_END || token.isOperator(")")) break
            items += expression()
        }
        return ListOf(items)
    }

    private fun expression(): Expression = nested {
        var value = or()
        while (token.isName("if")) {
            next()
            val condition = or()
            val otherwise = if (token.isName("else")) {
                next()
                expression()
            } else {
                null
            }
            value = Conditional(value, condition, otherwise)
        }
        value
    }

    private fun or(): Expression = leftmost({ it.isName("or") }, ::and)

    private fun and(): Expression = leftmost({ it.isName("and") }, ::not)

    private fun not(): Expression {
        if (!token.isName("not")) return comparison()
        next()
        return Unary("not", nested(::not))
    }

    private fun comparison(): Expression {
        val first = sum()
        val rest = ArrayList<Pair<String, Expression>>()
        while (true) {
            val operator = when {
                token.kind == TokenKind.OPERATOR && token.text in COMPARISONS -> next().text
                token.isName("in") -> next().text
                token.isName("not") && tokens[at + 1].isName("in") -> {
                    next()
                    next()
                    "not in"
                }
                else -> break
            }
            rest += operator to sum()
        }
        return if (rest.isEmpty()) first else Comparison(first, rest)
    }

    private fun sum(): Expression = leftmost({ it.isOperator("+") || it.isOperator("-") }, ::joined)

    private fun joined(): Expression = leftmost({ it.isOperator("~") }, ::product)

    private fun product(): Expression = leftmost({ it.kind == TokenKind.OPERATOR && it.text in PRODUCTS }, ::power)

    private fun power(): Expression = leftmost({ it.isOperator("**") }) { unary(filters = true) }

    private fun leftmost(matches: (Token) -> Boolean, operand: () -> Expression): Expression {
        var left = operand()
        while (matches(token)) left = Binary(next().text, left, operand())
        return left
    }

    private fun unary(filters: Boolean): Expression {
        val signed = token.isOperator("-") || token.isOperator("+")
        val operand = if (signed) Unary(next().text, nested { unary(filters = false) }) else primary()
        val postfixed = postfix(operand)
        return if (filters) filtersAndTests(postfixed) else postfixed
    }

    private fun primary(): Expression {
        val first = next()
        return when (first.kind) {
            TokenKind.NAME -> CONSTANTS[first.text]?.let { Constant(it.value) } ?: Name(first.text)
            TokenKind.STRING -> {
                val text = StringBuilder(first.text)
                while (token.kind == TokenKind.STRING) text.append(next().text)
                Constant(text.toString())
            }
            TokenKind.INTEGER -> Constant(narrow(first.text.toBigInteger()))
            TokenKind.FLOAT -> Constant(first.text.toDouble())
            else -> when (if (first.kind == TokenKind.OPERATOR) first.text else "") {
                "(" -> bracketed()
                "[" -> ListOf(items("]") { expression() })
                "{" -> MapOf(items("}") { expression().also { operator(":") } to expression() })
                else -> throw TemplateError("unexpected $first")
            }
        }
    }

    private fun bracketed(): Expression {
        if (token.isOperator(")")) {
            next()
            return ListOf(emptyList())
        }
        return tuple().also { operator(")") }
    }

    private fun <T> items(end: String, read: () -> T): List<T> {
        val items = ArrayList<T>()
        while (!token.isOperator(end)) {
            if (items.isNotEmpty()) operator(",")
            if (!token.isOperator(end)) items += read()
        }
        next()
        return items
    }

    private fun postfix(operand: Expression): Expression {
        var value = operand
        while (true) {
            value = when {
                token.isOperator(".") -> {
                    next()
                    val name = next()
                    if (name.kind == TokenKind.INTEGER) Item(value, Constant(name.text.toLong())) else Attribute(value, name.text)
                }
                token.isOperator("[") -> subscript(value)
                token.isOperator("(") -> Call(value, given())
                else -> return value
            }
        }
    }

    private fun subscript(value: Expression): Expression {
        next()
        val start = if (token.isOperator(":")) null else tuple()
        if (token.isOperator("]")) {
            next()
            return Item(value, start ?: throw TemplateError("an empty subscript"))
        }
        operator(":")
        val stop = if (token.isOperator(":") || token.isOperator("]")) null else expression()
        var step: Expression? = null
        if (token.isOperator(":")) {
            next()
            if (!token.isOperator("]")) step = expression()
        }
        operator("]")
        return Slice(value, start, stop, step)
    }

    private fun given(): Given {
        next()
        val named = ArrayList<Pair<String, Expression>>()
        val ordered = ArrayList<Expression>()
        items(")") {
            if (token.kind == TokenKind.NAME && tokens[at + 1].isOperator("=")) {
                val name = next().text
                next()
                named += name to expression()
            } else {
                ordered += expression()
            }
        }
        return Given(ordered, named)
    }

    private fun filtersAndTests(operand: Expression): Expression {
        var value = operand
        while (true) {
            value = when {
                token.isOperator("|") -> {
                    next()
                    val name = expect(TokenKind.NAME).text
                    Filter(value, name, if (token.isOperator("(")) given() else NOTHING)
                }
                token.isName("is") -> test(value)
                token.isOperator("(") -> Call(value, given())
                else -> return value
            }
        }
    }

    private fun test(value: Expression): Expression {
        next()
        val negated = token.isName("not")
        if (negated) next()
        val name = expect(TokenKind.NAME).text
        val arguments = when {
            token.isOperator("(") -> given()
            beginsOperand() -> Given(listOf(postfix(primary())), emptyList())
            else -> NOTHING
        }
        val made = Test(value, name, arguments)
        return if (negated) Unary("not", made) else made
    }

    private fun beginsOperand() = when (token.kind) {
        TokenKind.NAME -> token.text !in setOf("else", "or", "and", "is", "if", "in", "not")
        TokenKind.STRING, TokenKind.INTEGER, TokenKind.FLOAT -> true
        else -> token.isOperator("[") || token.isOperator("{")
    }

    // ---- tokens ----

    private fun next(): Token = tokens[at].also { if (at < tokens.size - 1) at++ }

    private fun expect(kind: TokenKind): Token {
        if (token.kind != kind) throw TemplateError("unexpected $token")
        return next()
    }

    private fun operator(operator: String) {
        if (!token.isOperator(operator)) throw TemplateError("'$operator' is missing before $token")
        next()
    }

    private fun <T> nested(read: () -> T): T {
        if (++depth > DEEPEST) throw TemplateError("nested too deep")
        return read().also { depth-- }
    }

    private companion object {
        const val DEEPEST = 100
        val COMPARISONS = setOf("==", "!=", "<", ">", "<=", ">=")
        val PRODUCTS = setOf("*", "/", "//", "%")
        val NOTHING = Given(emptyList(), emptyList())
        val CONSTANTS = mapOf(
            "true" to Constant(true), "True" to Constant(true), "false" to Constant(false), "False" to Constant(false),
            "none" to Constant(null), "None" to Constant(null),
        )
    }
}
