package gemmaedge.app

import android.app.Activity
import android.os.Bundle
import android.view.View

/** A screen that shows the application's [ChatState] while it can be seen. */
abstract class ScreenActivity : Activity() {
    protected val app get() = application as GemmaApplication
    protected val chat get() = app.chat
    private val listener: (ChatState) -> Unit = ::render

    protected abstract fun build(): View

    protected abstract fun render(state: ChatState)

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        show(build())
    }

    override fun onStart() {
        super.onStart()
        chat.listen(listener)
    }

    override fun onStop() {
        chat.forget(listener)
        super.onStop()
    }
}
