package gemmaedge.app

import android.app.Activity
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Insets
import android.os.Looper
import android.view.View
import android.view.WindowInsets
import android.widget.TextView
import java.io.File
import java.time.Duration
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf

internal val app get() = RuntimeEnvironment.getApplication() as GemmaApplication
internal val main get() = shadowOf(Looper.getMainLooper())

internal fun until(what: String, condition: () -> Boolean) {
    val end = System.nanoTime() + 30_000_000_000
    while (!condition()) {
        check(System.nanoTime() < end) { "waited 30 s for: $what; the state is ${app.chat.state}" }
        main.idleFor(Duration.ofMillis(33))
        Thread.sleep(1)
    }
    main.idle()
}

internal fun Activity.text(id: Int) = findViewById<TextView>(id).text.toString()

internal fun Activity.shown(id: Int) = findViewById<View>(id).visibility == View.VISIBLE

internal fun Activity.press(id: Int) = check(findViewById<View>(id).performClick())

/** A picture of a screen, for people to look at; with a status bar of 24 dp and a navigation bar of 48 dp in place. */
internal fun Activity.screenshot(name: String) {
    val bars = Insets.of(0, dp(24), 0, dp(48))
    window.decorView.dispatchApplyWindowInsets(WindowInsets.Builder().setInsets(WindowInsets.Type.systemBars(), bars).build())
    main.idle()
    val view = window.decorView
    view.measure(View.MeasureSpec.makeMeasureSpec(view.width, View.MeasureSpec.EXACTLY), View.MeasureSpec.makeMeasureSpec(view.height, View.MeasureSpec.EXACTLY))
    view.layout(0, 0, view.width, view.height)
    val bitmap = Bitmap.createBitmap(view.width, view.height, Bitmap.Config.ARGB_8888)
    view.draw(Canvas(bitmap))
    val folder = File(System.getProperty("gemma.screenshots")).apply { mkdirs() }
    File(folder, "$name.png").outputStream().use { bitmap.compress(Bitmap.CompressFormat.PNG, 100, it) }
}

/** Words of every text that is cut off, on its way down from [view]. */
internal fun clipped(view: View): List<String> = when {
    view.visibility != View.VISIBLE -> emptyList()
    view is android.view.ViewGroup -> (0 until view.childCount).flatMap { clipped(view.getChildAt(it)) }
    view is TextView && view.layout != null -> {
        val needed = view.layout.height + view.compoundPaddingTop + view.compoundPaddingBottom
        if (view.height < needed && view.maxLines > 1) listOf(view.text.toString()) else emptyList()
    }
    else -> emptyList()
}
