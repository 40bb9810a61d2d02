package gemmaedge.app

import android.app.ActivityManager
import android.app.Application
import android.content.ComponentCallbacks2
import android.content.pm.ApplicationInfo
import android.os.Handler
import android.os.Looper
import gemmaedge.core.Bundle
import gemmaedge.core.Engine
import gemmaedge.core.MANIFEST
import gemmaedge.executorch.ExecutorchEngine
import gemmaedge.executorch.ModuleProgram
import gemmaedge.ort.OnnxEngine
import java.io.File
import java.util.concurrent.Executors

/** Owns the one model of the process, so that it survives every screen. */
class GemmaApplication : Application() {
    private val handler = Handler(Looper.getMainLooper())
    val worker = Executors.newSingleThreadExecutor { Thread(it, "model") }!!

    /** A test may put another engine here. */
    var openEngine: (Bundle) -> Engine = ::engine
    val chat = ChatModel(worker, { delay, action -> handler.postDelayed(action, delay) }, ::freeMemory) { openEngine(it) }

    /** Internal flash: other places go through a slower file system. It is not backed up. */
    val imported get() = File(noBackupFilesDir, "bundle")

    /** Where `adb push` puts a bundle; read in place, by debug builds only. A test may name another. */
    var pushed = File("/data/local/tmp/gemma-edge.bundle")

    override fun onCreate() {
        super.onCreate()
        loadStored()
    }

    /** Open the imported bundle, or else the pushed one. */
    fun loadStored() {
        val debug = applicationInfo.flags and ApplicationInfo.FLAG_DEBUGGABLE != 0
        if (File(imported, MANIFEST).isFile) chat.load(imported) else if (debug && File(pushed, MANIFEST).canRead()) chat.load(pushed)
    }

    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        @Suppress("DEPRECATION") // before Android 14 it still comes
        val critical = level == ComponentCallbacks2.TRIM_MEMORY_RUNNING_CRITICAL
        if (critical || level >= ComponentCallbacks2.TRIM_MEMORY_BACKGROUND) chat.release()
    }

    override fun onLowMemory() {
        super.onLowMemory()
        chat.release()
    }

    /** Bytes that this phone can give without being short of memory. */
    fun freeMemory(): Long {
        val info = ActivityManager.MemoryInfo()
        getSystemService(ActivityManager::class.java).getMemoryInfo(info)
        return info.availMem - info.threshold
    }

    /** onnxruntime where a bundle has an artifact for it: it reads prompts many tokens at a time. */
    private fun engine(bundle: Bundle): Engine =
        if ("onnx" in bundle.manifest.artifacts) OnnxEngine.open(bundle, threads())
        else ExecutorchEngine.open(bundle) { ModuleProgram.open(it, threads()) }

    /** As many as a phone has big cores: the small ones would slow every call down. */
    private fun threads() = (Runtime.getRuntime().availableProcessors() / 2).coerceIn(1, 4)
}
