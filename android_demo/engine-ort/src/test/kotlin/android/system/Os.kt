package android.system

import java.io.File

/** What Android has of this name, as far as the engine calls it: it remembers how, and whether that was in time. */
object Os {
    data class Setting(val name: String, val value: String, val overwrite: Boolean, val libraryLoaded: Boolean)

    val settings = ArrayList<Setting>()

    @JvmStatic fun setenv(name: String, value: String, overwrite: Boolean) {
        settings += Setting(name, value, overwrite, "libonnxruntime" in File("/proc/self/maps").readText())
    }
}
