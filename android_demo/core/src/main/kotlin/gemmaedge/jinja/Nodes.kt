package gemmaedge.jinja

internal sealed interface Expression

internal class Constant(val value: Any?) : Expression

internal class Name(val name: String) : Expression

internal class ListOf(val items: List<Expression>) : Expression

internal class MapOf(val items: List<Pair<Expression, Expression>>) : Expression

internal class Unary(val operator: String, val operand: Expression) : Expression

internal class Binary(val operator: String, val left: Expression, val right: Expression) : Expression

/** a < b <= c: each with its neighbour. */
internal class Comparison(val first: Expression, val rest: List<Pair<String, Expression>>) : Expression

internal class Conditional(val value: Expression, val condition: Expression, val otherwise: Expression?) : Expression

internal class Attribute(val of: Expression, val name: String) : Expression

internal class Item(val of: Expression, val key: Expression) : Expression

internal class Slice(val of: Expression, val start: Expression?, val stop: Expression?, val step: Expression?) : Expression

internal class Call(val of: Expression, val arguments: Given) : Expression

internal class Filter(val of: Expression, val name: String, val arguments: Given) : Expression

internal class Test(val of: Expression, val name: String, val arguments: Given) : Expression

internal class Given(val ordered: List<Expression>, val named: List<Pair<String, Expression>>)

internal sealed interface Statement

internal class Output(val text: String) : Statement

internal class Print(val value: Expression) : Statement

/** With names of its own. */
internal class Block(val body: List<Statement>) : Statement

internal class If(val branches: List<Pair<Expression, List<Statement>>>, val otherwise: List<Statement>) : Statement

internal class For(
    val targets: List<String>,
    val over: Expression,
    val filter: Expression?,
    val body: List<Statement>,
    val otherwise: List<Statement>,
) : Statement

/** [attribute] is of a namespace; none: the name itself is set. */
internal class Set(val names: List<String>, val attribute: String?, val value: Expression) : Statement

internal class Capture(val name: String, val body: List<Statement>) : Statement

internal class Macro(val name: String, val parameters: List<Pair<String, Expression?>>, val body: List<Statement>) : Statement

internal object Break : Statement

internal object Continue : Statement
