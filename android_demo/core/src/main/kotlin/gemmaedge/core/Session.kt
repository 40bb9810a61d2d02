package gemmaedge.core

import java.io.Closeable

/**
 * One conversation with a bundle: tokens as they come, stop ids, cancel, turns without re-reading.
 * [trustControlTokens]: what messages hold of control tokens is read as such, not as text.
 */
class Session(
    val bundle: Bundle,
    private val engine: Engine,
    context: Int = 0,
    trustControlTokens: Boolean = false,
) : Closeable {
    private val manifest = bundle.manifest
    val tokenizer = openTokenizer(bundle)
    val control = ControlTokens(tokenizer)
    val context = minOf(if (context > 0) context else engine.context, engine.context)
    private val template = ChatTemplate.of(bundle, tokenizer, trustControlTokens)
    private var ids = IntArray(0) // what the caches hold
    private val checkpoints = ArrayList<Mark>() // at the ends of turns, from the first to the last

    @Volatile private var cancelled = false

    /** End the running answer within one token, from any thread. */
    fun cancel() {
        cancelled = true
        engine.cancel()
    }

    fun reset() {
        ids = IntArray(0)
        checkpoints.clear()
        engine.reset()
    }

    /** The ids of a conversation, ready for an answer. Throws [GemmaError] if the template refuses it. */
    fun prompt(messages: List<Message>, thinking: Boolean = false): IntArray {
        if (template == null) throw GemmaError("${bundle.folder}: this model has no chat template", "take a bundle of an instruction-tuned model")
        return template.prompt(messages, thinking)
    }

    /** Answer [messages]: text and thoughts as they come, then one [End], which is also returned. */
    fun chat(
        messages: List<Message>,
        sampling: Sampling = manifest.generation.sampling,
        maxNewTokens: Int? = null,
        thinking: Boolean = false,
        onEvent: (Event) -> Unit,
    ): End {
        if (thinking && !control.canThink) throw GemmaError("${bundle.folder}: this model cannot think first", "leave thinking out")
        val prompt = prompt(messages, thinking)
        val reader = AnswerReader(tokenizer, control, prompt)
        // No calls where there are no tools.
        val forbidden = if (control.call >= 0) intArrayOf(control.call) else IntArray(0)
        val end = generate(prompt, sampling, maxNewTokens, forbidden) { reader.push(it).forEach(onEvent) }
        reader.finish().forEach(onEvent)
        onEvent(end)
        return end
    }

    /**
     * Give the tokens that follow a prompt to [onToken]. A prompt that begins with what the caches hold is read from
     * there on; the stop token is not given. Throws [GemmaError] for an empty prompt, or one over the context.
     */
    fun generate(
        prompt: IntArray,
        sampling: Sampling = manifest.generation.sampling,
        maxNewTokens: Int? = null,
        forbidden: IntArray = IntArray(0),
        onToken: (Int) -> Unit,
    ): End {
        check(prompt, maxNewTokens)
        cancelled = false
        engine.resume()
        val sampler = Sampler(sampling)
        val started = System.nanoTime()
        val reused = reuse(prompt)
        var first = 0.0
        var spent = 0L
        var made = 0
        var stop = Stop.LENGTH
        try {
            var logits = read(prompt.copyOfRange(reused, prompt.size))
            markTurn()
            first = (System.nanoTime() - started) / 1e9
            while (true) {
                for (token in forbidden) logits[token] = Float.NEGATIVE_INFINITY
                val token = sampler.choose(logits)
                if (token in manifest.generation.stop) {
                    stop = Stop.STOP
                    break
                }
                made++
                onToken(token)
                if (made == maxNewTokens) break
                if (engine.position >= context) {
                    stop = Stop.CONTEXT
                    break
                }
                val begun = System.nanoTime()
                logits = read(intArrayOf(token))
                spent += System.nanoTime() - begun
            }
        } catch (stopped: Cancelled) {
            stop = Stop.CANCELLED
        }
        return End(stop, prompt.size, reused, made, first, if (spent > 0) (made - 1) * 1e9 / spent else 0.0)
    }

    private fun check(prompt: IntArray, maxNewTokens: Int?) {
        if (prompt.isEmpty()) throw GemmaError("the prompt is empty", "give at least one token")
        if (prompt.size > context) {
            throw GemmaError("the prompt has ${prompt.size} tokens, but the context is $context", "shorten the prompt, or begin again")
        }
        if (maxNewTokens != null && maxNewTokens < 1) {
            throw GemmaError("max new tokens must be at least 1, not $maxNewTokens", "leave it out for no limit")
        }
    }

    /** Tokens of the prompt that are in the caches; one at least is always read again for its logits. */
    private fun reuse(prompt: IntArray): Int {
        if (ids.size != engine.position) reset() // an interrupt came between the two
        var shared = 0
        while (shared < minOf(ids.size, prompt.size - 1) && ids[shared] == prompt[shared]) shared++
        if (shared < ids.size) shared = goBack(shared)
        ids = ids.copyOf(shared)
        checkpoints.removeAll { it.position > shared }
        return shared
    }

    /** The position that was reached: a window that has moved on comes back from an earlier turn's end. */
    private fun goBack(position: Int): Int {
        if (engine.rewind(position)) return position
        for (mark in checkpoints.reversed()) {
            if (!engine.restore(mark)) continue
            if (mark.position <= position) return mark.position
            if (engine.rewind(position)) return position
        }
        engine.reset()
        return 0
    }

    /** Remember the end of a prompt; of too many the one goes whose neighbours are nearest, but never the last. */
    private fun markTurn() {
        checkpoints += engine.save()
        if (checkpoints.size <= TURNS) return
        val at = listOf(0) + checkpoints.map { it.position }
        checkpoints.removeAt((0 until at.size - 2).minBy { at[it + 2] - at[it] })
    }

    /** Read tokens, a chunk at a time, and keep the ids in step with the caches. */
    private fun read(tokens: IntArray): FloatArray {
        var logits = FloatArray(0)
        for (start in tokens.indices step CHUNK) {
            if (cancelled) throw Cancelled()
            val piece = tokens.copyOfRange(start, minOf(start + CHUNK, tokens.size))
            logits = engine.forward(piece)
            ids += piece
        }
        return logits
    }

    override fun close() = engine.close()
}

private fun openTokenizer(bundle: Bundle): Tokenizer {
    val manifest = bundle.manifest
    if (manifest.vocabulary.isEmpty()) {
        throw GemmaError("${bundle.folder}: no compact vocabulary", "export the bundle again with this version of gemma-edge")
    }
    val vocabulary = Vocabulary.open(bundle.path(manifest.vocabulary))
    if (manifest.generation.bos !in 0 until vocabulary.pieces) {
        throw GemmaError("${bundle.folder}: the start token ${manifest.generation.bos} is not in the vocabulary", EXPORT_AGAIN)
    }
    return Tokenizer(vocabulary, manifest.generation.bos)
}
