package gemmaedge.app

import android.content.Context
import android.graphics.Typeface
import android.view.Gravity
import android.view.View
import android.view.ViewGroup
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.BaseAdapter
import android.widget.FrameLayout
import android.widget.LinearLayout
import android.widget.TextView

/** One bubble a turn: the user's on the right, the model's on the left, its thought above the answer. */
internal class TurnAdapter(private val context: Context) : BaseAdapter() {
    private var turns = emptyList<Turn>()

    fun show(turns: List<Turn>) {
        if (turns == this.turns) return
        this.turns = turns
        notifyDataSetChanged()
    }

    override fun getCount() = turns.size
    override fun getItem(position: Int) = turns[position]
    override fun getItemId(position: Int) = position.toLong()
    override fun isEnabled(position: Int) = false

    private class Bubble(context: Context) : FrameLayout(context) {
        val heading = context.label(12f, R.color.muted, bold = true).apply { setText(R.string.thought) }
        val thought: TextView = context.label(14f, R.color.muted).apply {
            setTypeface(typeface, Typeface.ITALIC)
            setPadding(0, 0, 0, context.dp(8))
        }
        val answer: TextView = context.label(16f).apply {
            setTextIsSelectable(true)
            setLineSpacing(0f, 1.15f)
        }
        val column: LinearLayout = context.column(heading, thought, answer)

        init {
            // As wide as its words, also where a shorter turn takes the place of a longer one.
            for (view in listOf(heading, thought, answer)) view.layoutParams = LinearLayout.LayoutParams(WRAP_CONTENT, WRAP_CONTENT)
            column.setPadding(context.dp(16), context.dp(10), context.dp(16), context.dp(10))
            addView(column)
        }
    }

    override fun getView(position: Int, convertView: View?, parent: ViewGroup): View {
        val bubble = convertView as Bubble? ?: Bubble(context)
        val turn = turns[position]
        val thinks = if (turn.thought.isEmpty()) View.GONE else View.VISIBLE
        bubble.heading.visibility = thinks
        bubble.thought.visibility = thinks
        bubble.thought.text = turn.thought
        bubble.answer.text = turn.text.ifEmpty { "…" }
        bubble.answer.setTextColor(context.getColor(if (turn.fromUser) R.color.on_user else R.color.text))
        bubble.column.background = context.rounded(if (turn.fromUser) R.color.user_bubble else R.color.model_bubble, 20)
        val side = if (turn.fromUser) Gravity.END else Gravity.START
        bubble.column.layoutParams = FrameLayout.LayoutParams(WRAP_CONTENT, WRAP_CONTENT, side)
        val far = context.dp(48)
        val near = context.dp(16)
        bubble.setPaddingRelative(if (turn.fromUser) far else near, context.dp(5), if (turn.fromUser) near else far, context.dp(5))
        return bubble
    }
}
