package gemmaedge.core

import gemmaedge.jinja.TemplateError
import java.util.UUID

/**
 * The messages as given where the template renders every system message, else with all of them in one at the start: some
 * templates refuse a later one, and others drop it without a word. What [render] does with them is seen by marks in place
 * of their texts. Throws [GemmaError] if the template drops the one too.
 */
internal fun placed(messages: List<Message>, render: (List<Message>) -> String): List<Message> {
    if (messages.drop(1).none { it.role == Role.SYSTEM } || rendered(messages, render)) return messages
    val merged = inOne(messages)
    if (!saysAll(merged, render)) {
        throw GemmaError("the chat template has no place for a system message", "put it into a message of the user")
    }
    return merged
}

private fun rendered(messages: List<Message>, render: (List<Message>) -> String): Boolean = try {
    saysAll(messages, render)
} catch (refused: TemplateError) { // what else the template refuses shows when the system messages are in one
    false
}

private fun saysAll(messages: List<Message>, render: (List<Message>) -> String): Boolean {
    val key = UUID.randomUUID()
    val places = messages.indices.filter { messages[it].role == Role.SYSTEM }.toSet()
    val text = render(messages.mapIndexed { at, message -> if (at in places) message.copy(content = "$key.$at.") else message })
    return Regex("$key\\.(\\d+)\\.").findAll(text).map { it.groupValues[1].toInt() }.toSet() == places
}

/** All system messages as the first, a paragraph each. */
private fun inOne(messages: List<Message>): List<Message> {
    val (systems, others) = messages.partition { it.role == Role.SYSTEM }
    return listOf(Message(Role.SYSTEM, systems.joinToString("\n\n") { it.content })) + others
}
