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

/** The checkpoint's own template. */
class ChatTemplate(file: File?, private val folder: File) {
    private val template = file?.let {
        val source = strictUtf8(it.readBytes()) ?: throw GemmaError("$it: the chat template is not UTF-8", FETCH_AGAIN)
        refusing { Template.parse(source) }
    }

    /** Throws [GemmaError] if the bundle has no template or the template refuses the messages. */
    fun render(messages: List<Message>, bosToken: String, thinking: Boolean): String {
        if (template == null) throw GemmaError("$folder: this model has no chat template", "take a bundle of an instruction-tuned model")
        val variables = mapOf(
            "messages" to messages.map { it.variables() },
            "bos_token" to bosToken,
            "add_generation_prompt" to true,
            "tools" to null,
            "enable_thinking" to thinking,
        )
        return refusing { template.render(variables) }
    }

    private fun <T> refusing(work: () -> T): T = try {
        work()
    } catch (error: TemplateError) {
        throw GemmaError("chat template: ${error.message}", "check the roles and the content of the messages", error)
    }
}
