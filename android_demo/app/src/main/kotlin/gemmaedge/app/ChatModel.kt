package gemmaedge.app

import gemmaedge.core.Bundle
import gemmaedge.core.BundleImporter
import gemmaedge.core.BundleSource
import gemmaedge.core.End
import gemmaedge.core.Engine
import gemmaedge.core.Event
import gemmaedge.core.GemmaError
import gemmaedge.core.Message
import gemmaedge.core.Role
import gemmaedge.core.Session
import gemmaedge.core.Text
import gemmaedge.core.Thought
import java.io.File
import java.util.concurrent.Executor

private const val FRAME_MILLIS = 33L // a screen shows no more often what streams in

/**
 * The one conversation of the process: it outlives every screen. Public functions are called on the main thread, the
 * model runs on [worker] (one thread), and the listener is called on the main thread.
 */
class ChatModel(
    private val worker: Executor,
    private val main: (delay: Long, action: () -> Unit) -> Unit,
    private val room: () -> Long,
    private val open: (Bundle) -> Engine,
) {
    private val listeners = LinkedHashSet<(ChatState) -> Unit>()
    var state = ChatState()
        private set(value) {
            field = value
            listeners.toList().forEach { it(value) }
        }
    private var folder: File? = null
    private var session: Session? = null // of the worker
    @Volatile private var running: Session? = null
    @Volatile private var stopped = false
    private val pending = ArrayList<Event>() // guarded by itself
    private var framePosted = false // guarded by pending

    fun listen(listener: (ChatState) -> Unit) {
        listeners += listener
        listener(state)
    }

    fun forget(listener: (ChatState) -> Unit) {
        listeners -= listener
    }

    /** Open a bundle in place of the present one, which is closed first: two need not fit into memory. */
    fun load(folder: File) {
        if (state.busy) return
        this.folder = folder
        state = ChatState(Phase.LOADING)
        work { opened(folder) }
    }

    /** Copy a bundle to [target], then open it. */
    fun import(source: BundleSource, target: File) {
        if (state.busy) return
        folder = target
        state = ChatState(Phase.IMPORTING, state.turns, state.model)
        stopped = false
        work {
            val importer = BundleImporter(source, target)
            val manifest = importer.manifest()
            ModelFacts.of(manifest, room()) // before gigabytes are copied
            closeSession()
            val whole = importer.run { copied ->
                main(0) { if (state.phase == Phase.IMPORTING) state = state.copy(copied = copied, total = manifest.diskBytes) }
                !stopped
            }
            if (!whole) throw GemmaError("the import was stopped", "import the folder again: it goes on where it stopped")
            main(0) { state = ChatState(Phase.LOADING) }
            opened(target)
        }
    }

    /** Delete the bundle that is open. */
    fun delete() {
        if (state.busy) return
        val gone = folder
        state = ChatState(Phase.LOADING)
        worker.execute {
            closeSession()
            gone?.deleteRecursively()
            main(0) { state = ChatState() }
        }
    }

    fun send(text: String, thinking: Boolean) {
        if (text.isBlank() || !state.canSend) return
        val turns = state.turns + Turn(true, text.trim())
        state = state.copy(phase = Phase.ANSWERING, turns = turns + Turn(false, ""), end = null, error = "")
        stopped = false
        work { answer(turns, thinking) }
    }

    /** End the running answer, or the running import. */
    fun stop() {
        stopped = true
        running?.cancel()
    }

    /** Begin a new conversation with the same model. */
    fun clear() {
        if (!state.busy) state = state.copy(turns = emptyList(), end = null, error = "")
    }

    /** Give memory back, if no answer is running; the next message loads the model again. */
    fun release() {
        if (state.phase != Phase.READY) return
        state = state.copy(phase = Phase.RELEASED)
        worker.execute(::closeSession)
    }

    /** Run a task on the worker; the change of the state that it returns is made on the main thread. */
    private fun work(task: () -> (ChatState) -> ChatState) = worker.execute {
        val result: () -> Unit = try {
            val change = task();
            { state = change(state) }
        } catch (error: GemmaError) {
            { failed("${error.sentence}. ${error.hint.replaceFirstChar(Char::uppercase)}.") }
        } catch (error: java.io.IOException) {
            { failed(error.message ?: error.toString()) }
        }
        main(0) {
            flush()
            result()
        }
    }

    private fun failed(reason: String) {
        val answered = state.phase == Phase.ANSWERING
        state = state.copy(phase = if (answered) Phase.READY else Phase.FAILED, error = reason, model = if (answered) state.model else null)
    }

    private fun opened(folder: File): (ChatState) -> ChatState {
        closeSession()
        val bundle = Bundle.open(folder)
        val facts = ModelFacts.of(bundle.manifest, room())
        val made = Session(bundle, open(bundle), facts.context)
        session = made
        return { ChatState(Phase.READY, model = facts.copy(canThink = made.control.canThink)) }
    }

    private fun closeSession() {
        session?.close()
        session = null
    }

    private fun answer(turns: List<Turn>, thinking: Boolean): (ChatState) -> ChatState {
        val one = session ?: opened(folder ?: error("no model")).let { session!! }
        running = one
        var end: End? = null
        try {
            if (!stopped) {
                end = one.chat(turns.map(::message), thinking = thinking) {
                    if (it is End) return@chat
                    show(it)
                    if (stopped) one.cancel()
                }
            }
        } finally {
            running = null
        }
        return { it.copy(phase = Phase.READY, end = end) }
    }

    private fun message(turn: Turn) = Message(if (turn.fromUser) Role.USER else Role.ASSISTANT, turn.text, turn.thought)

    /** From the worker: the main thread takes what has come, once a frame. */
    private fun show(event: Event) {
        val first = synchronized(pending) {
            pending += event
            !framePosted.also { framePosted = true }
        }
        if (first) main(FRAME_MILLIS, ::flush)
    }

    private fun flush() {
        val events = synchronized(pending) {
            framePosted = false
            pending.toList().also { pending.clear() }
        }
        if (events.isEmpty() || state.turns.isEmpty()) return
        var last = state.turns.last()
        for (event in events) {
            if (event is Text) last = last.copy(text = last.text + event.text)
            if (event is Thought) last = last.copy(thought = last.thought + event.text)
        }
        state = state.copy(turns = state.turns.dropLast(1) + last)
    }
}
