package gemmaedge.app

import android.app.Activity
import android.content.Context
import android.content.res.ColorStateList
import android.graphics.Typeface
import android.graphics.drawable.GradientDrawable
import android.graphics.drawable.RippleDrawable
import android.view.View
import android.view.ViewGroup.LayoutParams.MATCH_PARENT
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.Button
import android.widget.LinearLayout
import android.widget.TextView

internal fun Context.dp(value: Int) = (value * resources.displayMetrics.density).toInt()

internal fun Context.label(size: Float, color: Int = R.color.text, bold: Boolean = false) = TextView(this).apply {
    textSize = size
    setTextColor(context.getColor(color))
    if (bold) typeface = Typeface.create("sans-serif-medium", Typeface.NORMAL)
}

internal fun Context.rounded(color: Int, radius: Int) = GradientDrawable().apply {
    cornerRadius = dp(radius).toFloat()
    setColor(getColor(color))
}

/** A button in the accent's colour, or one of text alone. */
internal fun Context.button(viewId: Int, text: Int, filled: Boolean, click: () -> Unit) = Button(this, null, 0).apply {
    id = viewId
    setText(text)
    textSize = 15f
    isAllCaps = false
    gravity = android.view.Gravity.CENTER
    minHeight = dp(48)
    minimumHeight = dp(48)
    isFocusable = true
    isClickable = true
    typeface = Typeface.create("sans-serif-medium", Typeface.NORMAL)
    setPadding(dp(if (filled) 20 else 12), 0, dp(if (filled) 20 else 12), 0)
    setTextColor(context.getColorStateList(if (filled) R.color.on_accent else R.color.accent_text))
    val shape = rounded(R.color.accent, 24).apply { color = context.getColorStateList(if (filled) R.color.button else R.color.clear) }
    background = RippleDrawable(ColorStateList.valueOf(context.getColor(R.color.ripple)), shape, rounded(R.color.accent, 24))
    setOnClickListener { click() }
}

internal fun Context.row(vararg views: Pair<View, Float>) = LinearLayout(this).apply {
    gravity = android.view.Gravity.CENTER_VERTICAL
    for ((view, weight) in views) addView(view, LinearLayout.LayoutParams(if (weight > 0) 0 else WRAP_CONTENT, WRAP_CONTENT, weight))
}

internal fun Context.column(vararg views: View) = LinearLayout(this).apply {
    orientation = LinearLayout.VERTICAL
    for (view in views) addView(view, LinearLayout.LayoutParams(MATCH_PARENT, WRAP_CONTENT))
}

/** The content of a screen, kept out from under the system's bars and the keyboard. */
internal fun Activity.show(content: View) {
    content.setBackgroundColor(getColor(R.color.surface))
    content.setOnApplyWindowInsetsListener { view, insets ->
        @Suppress("DEPRECATION") // one call for every version: bars, cutouts and the keyboard
        view.setPadding(insets.systemWindowInsetLeft, insets.systemWindowInsetTop, insets.systemWindowInsetRight, insets.systemWindowInsetBottom)
        insets
    }
    setContentView(content)
}

internal fun Context.megabytes(bytes: Long): String =
    if (bytes >= 1_000_000_000) getString(R.string.gigabytes, bytes / 1e9) else getString(R.string.megabytes, bytes / 1e6)
