package gemmaedge.jinja

/** A chat template, in the part of Jinja that released templates are written in. */
class Template private constructor(private val statements: List<Statement>) {
    /**
     * The text for [variables]: maps, lists, texts, Long, BigInteger, Double, Boolean and null.
     * Throws [TemplateError] if the template refuses them, or does what the sandbox forbids.
     */
    fun render(variables: Map<String, Any?>): String = Renderer().template(statements, variables)

    companion object {
        fun parse(source: String) = Template(Parser(Lexer(source).tokens()).template())
    }
}
