package gemmaedge.core

private const val HEADER = "thought\n" // the name of the channel that thoughts are in

/** The tokens of an answer become events: text and thoughts. [prompt] may end inside a thought. */
class AnswerReader(private val tokenizer: Tokenizer, private val control: ControlTokens, prompt: IntArray) {
    var thoughtTokens = 0
        private set
    private var thinking = false
    private var stream = tokenizer.stream()
    private var held = ""
    private var named = false

    init {
        openThought(prompt)?.let { start ->
            enter(thought = true)
            think(tokenizer.decode(prompt.copyOfRange(start + 1, prompt.size)))
        }
    }

    /** What one more token adds. */
    fun push(token: Int): List<Event> = when {
        token == control.channel -> leave(thought = true)
        token == control.channelEnd -> leave(thought = false)
        thinking -> {
            if (named) thoughtTokens++
            think(stream.push(token))
        }
        else -> stream.push(token).let { if (it.isEmpty()) emptyList() else listOf(Text(it)) }
    }

    /** What is left when the answer ends here. */
    fun finish(): List<Event> = leave(thought = false)

    private fun enter(thought: Boolean) {
        thinking = thought
        stream = tokenizer.stream()
        held = ""
        named = false
    }

    /** The events that close a part; a thought's last line break belongs to its end token. */
    private fun leave(thought: Boolean): List<Event> {
        val left = held.trimEnd('\n')
        val events = if (left.isEmpty() || left == HEADER.trimEnd('\n')) emptyList() else listOf(Thought(held))
        enter(thought)
        return events
    }

    /** Thoughts without the channel's name; a line break waits until more follows. */
    private fun think(text: String): List<Event> {
        held += text
        if (!named && HEADER.startsWith(held) && held != HEADER) return emptyList()
        if (!named) {
            named = true
            held = held.removePrefix(HEADER)
        }
        val said = held.removeSuffix("\n")
        held = held.substring(said.length)
        return if (said.isEmpty()) emptyList() else listOf(Thought(said))
    }

    /** Where the thought begins that a prompt leaves open. */
    private fun openThought(prompt: IntArray): Int? {
        for (at in prompt.indices.reversed()) {
            if (prompt[at] == control.channel) return at
            if (prompt[at] == control.channelEnd || prompt[at] == control.turn) return null
        }
        return null
    }
}
