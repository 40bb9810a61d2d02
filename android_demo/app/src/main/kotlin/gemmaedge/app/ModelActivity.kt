package gemmaedge.app

import android.content.Intent
import android.view.View
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.ScrollView
import android.widget.TextView

/** The model's page: what it takes of flash and memory, import, removal. */
class ModelActivity : ScreenActivity() {
    private lateinit var facts: LinearLayout
    private lateinit var note: TextView
    private lateinit var progress: ProgressBar
    private lateinit var import: View
    private lateinit var delete: View
    private lateinit var cancel: View

    override fun build(): View {
        val title = label(20f, bold = true).apply { setText(R.string.model) }
        val back = button(R.id.back, R.string.back, filled = false) { finish() }
        facts = column().apply { id = R.id.facts }
        note = label(15f, R.color.muted).apply {
            id = R.id.note
            setPadding(0, dp(12), 0, dp(12))
            setLineSpacing(0f, 1.15f)
        }
        progress = ProgressBar(this, null, android.R.attr.progressBarStyleHorizontal).apply { max = 1000 }
        import = button(R.id.import_model, R.string.import_model, filled = true, ::pick)
        delete = button(R.id.delete, R.string.delete, filled = false) { chat.delete() }
        cancel = button(R.id.cancel, R.string.stop, filled = false) { chat.stop() }
        val how = label(14f, R.color.muted).apply {
            setText(R.string.import_how)
            setPadding(0, dp(16), 0, dp(16))
            setLineSpacing(0f, 1.15f)
        }
        val content = column(facts, note, progress, row(import to 0f, delete to 0f, cancel to 0f), how)
        content.setPadding(dp(16), dp(8), dp(16), dp(16))
        return LinearLayout(this).apply {
            orientation = LinearLayout.VERTICAL
            addView(row(title to 1f, back to 0f).apply { setPadding(dp(16), dp(8), dp(8), dp(8)) })
            addView(ScrollView(context).apply { addView(content) })
        }
    }

    override fun render(state: ChatState) {
        facts.removeAllViews()
        state.model?.let { model ->
            fact(R.string.name, model.name)
            fact(R.string.recipe, model.recipe)
            fact(R.string.disk, megabytes(model.disk))
            fact(R.string.resident, megabytes(model.resident))
            fact(R.string.flash, megabytes(model.flash))
            fact(R.string.context, getString(R.string.tokens, model.context))
            fact(R.string.peak, megabytes(model.peak))
        }
        fact(R.string.free, megabytes(app.freeMemory()))
        val importing = state.phase == Phase.IMPORTING
        progress.visibility = if (importing) View.VISIBLE else View.GONE
        progress.progress = if (state.total > 0) (1000 * state.copied / state.total).toInt() else 0
        note.text = when (state.phase) {
            Phase.IMPORTING -> getString(R.string.importing, megabytes(state.copied), megabytes(state.total))
            Phase.LOADING -> getString(R.string.loading)
            Phase.FAILED -> state.error
            Phase.NO_MODEL -> getString(R.string.no_model)
            else -> getString(R.string.fits)
        }
        note.setTextColor(getColor(if (state.phase == Phase.FAILED) R.color.warning else R.color.muted))
        import.isEnabled = !state.busy
        delete.visibility = if (state.model != null && !state.busy) View.VISIBLE else View.GONE
        cancel.visibility = if (importing) View.VISIBLE else View.GONE
    }

    private fun fact(name: Int, value: String) {
        val title = label(15f, R.color.muted).apply { setText(name) }
        val shown = label(15f, bold = true).apply {
            text = value
            textAlignment = View.TEXT_ALIGNMENT_TEXT_END
        }
        facts.addView(row(title to 1f, shown to 1f).apply { setPadding(0, dp(7), 0, dp(7)) })
    }

    private fun pick() {
        @Suppress("DEPRECATION") // what replaces it is in AndroidX
        startActivityForResult(Intent(Intent.ACTION_OPEN_DOCUMENT_TREE), PICK_FOLDER)
    }

    @Deprecated("what replaces it is in AndroidX")
    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        val tree = data?.data
        if (requestCode != PICK_FOLDER || resultCode != RESULT_OK || tree == null) return
        chat.import(TreeSource(app.contentResolver, tree), app.imported)
    }

    private companion object {
        const val PICK_FOLDER = 1
    }
}
