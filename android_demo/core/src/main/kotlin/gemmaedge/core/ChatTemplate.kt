package gemmaedge.core

import gemmaedge.jinja.Template
import gemmaedge.jinja.TemplateError
import java.io.File

enum class Role { SYSTEM, USER, ASSISTANT }

data class Message(val role: Role, val content: String, val thought: String = "") {
    /** The form that templates read. */
    internal fun variables(): Map<String, Any?> {
        val made = linkedMapOf<String, Any?>("role" to role.name.lowercase(), "content" to content)
        if (thought.isNotEmpty()) made["reasoning"] = thought
        return made
    }
}

/**
 * The checkpoint's own template. The texts of messages never become control tokens, unless they are trusted: then what
 * they hold of them is read as the template's. Throws [GemmaError] for a source that can not be read.
 */
class ChatTemplate(
    source: String,
    private val tokenizer: Tokenizer,
    specialTokens: Map<String, String> = emptyMap(),
    private val trustControlTokens: Boolean = false,
) {
    private val template = refusing { Template.parse(source) }
    private val control = tokenizer.control
    private val mask = tokenizer.mask
    private val written = control.within(source).toSet() // control tokens of which the template holds the text
    private val specialTokens = mapOf("bos_token" to tokenizer.vocabulary.piece(tokenizer.bos)) + specialTokens

    /** The ids of a conversation, ready for an answer. Throws [GemmaError] if the template refuses the messages. */
    fun prompt(messages: List<Message>, thinking: Boolean = false): IntArray = refusing {
        val placed = placed(messages) { asked -> render(asked.map { hidden(it) }, thinking) }
        if (trustControlTokens) tokenizer.encode(render(placed, thinking)) else tokenizer.encodeRendered(renderHidden(placed, thinking))
    }

    private fun render(messages: List<Message>, thinking: Boolean): String = template.render(
        specialTokens + mapOf(
            "messages" to messages.map { it.variables() },
            "add_generation_prompt" to true,
            "tools" to null,
            "enable_thinking" to thinking,
        ),
    )

    /**
     * The text with control tokens of messages hidden, but for those that the template takes out. They are hidden too
     * where one of them, or one made of what is around it, would be left.
     */
    private fun renderHidden(messages: List<Message>, thinking: Boolean): String {
        val allHidden = render(messages.map { hidden(it) }, thinking)
        val takenOut = takenOut(messages)
        if (takenOut.isEmpty()) return allHidden
        val withoutThem = render(messages.map { hidden(it, takenOut) }, thinking)
        return if (control.within(withoutThem) == control.within(allHidden)) withoutThem else allHidden
    }

    private fun hidden(message: Message, kept: Set<String> = emptySet()) = message.copy(
        content = mask.hide(message.content, if (message.role == Role.ASSISTANT) kept else emptySet()),
        thought = mask.hide(message.thought),
    )

    /** Control tokens that the template takes out of what an assistant said, as it does to drop earlier thoughts. */
    private fun takenOut(messages: List<Message>): Set<String> {
        val said = messages.filter { it.role == Role.ASSISTANT }.flatMapTo(HashSet()) { control.within(it.content) }
        return written.intersect(said).filter(::takesOut).toSet()
    }

    /** Whether a token in an answer leads to no token in the text. */
    private fun takesOut(token: String): Boolean = try {
        val said = listOf(Message(Role.USER, "a"), Message(Role.ASSISTANT, "b${token}c"), Message(Role.USER, "d"))
        control.within(render(said, false)) == control.within(render(said.map { hidden(it) }, false))
    } catch (refused: TemplateError) {
        false
    }

    private fun <T> refusing(work: () -> T): T = try {
        work()
    } catch (error: TemplateError) {
        throw GemmaError("chat template: ${error.message}", "check the roles and the content of the messages", error)
    }

    companion object {
        /** null if the bundle has none. Throws [GemmaError] for a template that can not be read. */
        fun of(bundle: Bundle, tokenizer: Tokenizer, trustControlTokens: Boolean = false): ChatTemplate? {
            val manifest = bundle.manifest
            if (manifest.chatTemplate.isEmpty()) return null
            return ChatTemplate(source(bundle.path(manifest.chatTemplate)), tokenizer, manifest.specialTokens, trustControlTokens)
        }

        private fun source(file: File) =
            strictUtf8(file.readBytes()) ?: throw GemmaError("$file: the chat template is not UTF-8", FETCH_AGAIN)
    }
}
