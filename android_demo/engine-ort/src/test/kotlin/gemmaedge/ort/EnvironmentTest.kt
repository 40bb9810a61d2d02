package gemmaedge.ort

import android.system.Os
import gemmaedge.core.Bundle
import gemmaedge.core.GoldenSet
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class EnvironmentTest {
    @Test fun telemetryIsOffBeforeTheLibraryLoads() {
        OnnxEngine.open(Bundle.open(GoldenSet.INT4.bundle), 1).close()
        assertTrue("libonnxruntime" in File("/proc/self/maps").readText())
        assertEquals(listOf(Os.Setting("ORT_DISABLE_TELEMETRY", "1", overwrite = false, libraryLoaded = false)), Os.settings)
    }

    /** Of this JVM, which was started with the variable. */
    @Test fun nothingIsLeftInTheHomeFolder() {
        OnnxEngine.open(Bundle.open(GoldenSet.INT4.bundle), 1).close()
        val home = File(System.getenv("HOME"))
        assertEquals(emptyList<File>(), home.walk().filter(File::isFile).toList())
    }
}
