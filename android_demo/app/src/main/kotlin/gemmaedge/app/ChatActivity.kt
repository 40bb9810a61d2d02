package gemmaedge.app

import android.content.Intent
import android.text.InputType
import android.view.Gravity
import android.view.View
import android.view.ViewGroup.LayoutParams.MATCH_PARENT
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.view.inputmethod.EditorInfo
import android.widget.AbsListView
import android.widget.CheckBox
import android.widget.EditText
import android.widget.FrameLayout
import android.widget.LinearLayout
import android.widget.ListView
import android.widget.TextView
import gemmaedge.core.Stop

/** The conversation. */
class ChatActivity : ScreenActivity() {
    private val turns by lazy { TurnAdapter(this) }
    private lateinit var model: TextView
    private lateinit var empty: TextView
    private lateinit var status: TextView
    private lateinit var think: CheckBox
    private lateinit var input: EditText
    private lateinit var send: View
    private lateinit var stop: View

    override fun build() = LinearLayout(this).apply {
        orientation = LinearLayout.VERTICAL
        addView(header())
        addView(conversation(), LinearLayout.LayoutParams(MATCH_PARENT, 0, 1f))
        addView(footer())
    }

    private fun header(): View {
        val title = label(20f, bold = true).apply { setText(R.string.app_name) }
        model = label(13f, R.color.muted).apply {
            id = R.id.model
            isSingleLine = true
            ellipsize = android.text.TextUtils.TruncateAt.END
        }
        val clear = button(R.id.clear, R.string.clear, filled = false) { chat.clear() }
        val page = button(R.id.open_model, R.string.model, filled = false) { startActivity(Intent(this, ModelActivity::class.java)) }
        return row(column(title, model) to 1f, clear to 0f, page to 0f).apply { setPadding(dp(16), dp(8), dp(8), dp(8)) }
    }

    private fun conversation(): View {
        val list = ListView(this).apply {
            id = R.id.chat
            adapter = turns
            divider = null
            clipToPadding = false
            setPadding(0, dp(8), 0, dp(8))
            transcriptMode = AbsListView.TRANSCRIPT_MODE_ALWAYS_SCROLL
        }
        empty = label(16f, R.color.muted).apply {
            id = R.id.empty
            gravity = Gravity.CENTER
            setPadding(dp(40), 0, dp(40), 0)
        }
        return FrameLayout(this).apply {
            addView(list)
            addView(empty, FrameLayout.LayoutParams(MATCH_PARENT, WRAP_CONTENT, Gravity.CENTER))
        }
    }

    private fun footer(): View {
        status = label(13f, R.color.muted).apply {
            id = R.id.status
            accessibilityLiveRegion = View.ACCESSIBILITY_LIVE_REGION_POLITE
        }
        think = CheckBox(this).apply {
            id = R.id.think
            setText(R.string.think)
            textSize = 14f
            setTextColor(context.getColor(R.color.text))
        }
        input = EditText(this).apply {
            id = R.id.input
            setHint(R.string.hint)
            setTextColor(context.getColor(R.color.text))
            setHintTextColor(context.getColor(R.color.muted))
            textSize = 16f
            maxLines = 5
            background = rounded(R.color.model_bubble, 24)
            setPadding(dp(18), dp(12), dp(18), dp(12))
            inputType = InputType.TYPE_CLASS_TEXT or InputType.TYPE_TEXT_FLAG_CAP_SENTENCES or InputType.TYPE_TEXT_FLAG_MULTI_LINE
            imeOptions = EditorInfo.IME_ACTION_SEND
            setOnEditorActionListener { _, action, _ -> (action == EditorInfo.IME_ACTION_SEND).also { if (it) submit() } }
        }
        send = button(R.id.send, R.string.send, filled = true, ::submit)
        stop = button(R.id.stop, R.string.stop, filled = true) { chat.stop() }
        val buttons = FrameLayout(this).apply {
            setPadding(dp(8), 0, 0, 0)
            addView(send)
            addView(stop)
        }
        return column(row(status to 1f, think to 0f), row(input to 1f, buttons to 0f)).apply { setPadding(dp(16), dp(4), dp(16), dp(12)) }
    }

    private fun submit() {
        if (!send.isEnabled) return
        chat.send(input.text.toString(), think.isChecked && think.visibility == View.VISIBLE)
        input.text.clear()
    }

    override fun render(state: ChatState) {
        turns.show(state.turns)
        val answering = state.phase == Phase.ANSWERING
        send.visibility = if (answering) View.INVISIBLE else View.VISIBLE
        stop.visibility = if (answering) View.VISIBLE else View.INVISIBLE
        send.isEnabled = state.canSend
        think.visibility = if (state.model?.canThink == true) View.VISIBLE else View.GONE
        findViewById<View>(R.id.clear).visibility = if (state.turns.isEmpty()) View.GONE else View.VISIBLE
        model.text = state.model?.let { getString(R.string.model_line, it.name, it.recipe) } ?: getString(R.string.no_model)
        empty.visibility = if (state.turns.isEmpty()) View.VISIBLE else View.GONE
        empty.setText(if (state.model == null) R.string.empty_without_model else R.string.empty)
        status.text = statusLine(state)
        status.setTextColor(getColor(if (state.error.isEmpty()) R.color.muted else R.color.warning))
    }

    private fun statusLine(state: ChatState): String = when (state.phase) {
        Phase.NO_MODEL -> ""
        Phase.IMPORTING -> getString(R.string.importing, megabytes(state.copied), megabytes(state.total))
        Phase.LOADING -> getString(R.string.loading)
        Phase.ANSWERING -> getString(R.string.answering)
        Phase.RELEASED -> getString(R.string.released)
        Phase.FAILED -> state.error
        Phase.READY -> state.error.ifEmpty { state.end?.let(::figures).orEmpty() }
    }

    private fun figures(end: gemmaedge.core.End): String {
        val memory = megabytes(residentMemory())
        val format = if (end.stop == Stop.CANCELLED) R.string.stopped else if (end.stop == Stop.CONTEXT) R.string.full else R.string.done
        return getString(format, end.newTokens, end.tokensPerSecond, end.firstTokenSeconds, memory)
    }
}
