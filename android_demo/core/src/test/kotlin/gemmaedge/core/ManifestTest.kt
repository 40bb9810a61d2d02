package gemmaedge.core

import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class ManifestTest {
    private val text = File(GoldenSet.INT4.bundle, "bundle.json").readText()

    private fun onnx(text: String) = readManifest(parseJson(text)).artifacts.getValue("onnx")

    private fun with(choice: String) = text.replace(Regex("(\"scale_error\": [^,}\\s]+)(,\\s*\"kleidiai\": true)?"), "$1$choice")

    @Test fun aBundleMayDoWithoutKleidiai() {
        assertFalse(onnx(with(", \"kleidiai\": false")).kleidiai)
        assertTrue("an older bundle says nothing", onnx(with("")).kleidiai)
        assertFalse("kleidiai" in with(""))
    }

    @Test fun whatIsNoChoiceIsRefused() {
        val refused = assertThrows(JsonError::class.java) { onnx(with(", \"kleidiai\": 1")) }
        assertEquals("Expected true or false, got Long - at `\$.artifacts[...].kleidiai`", refused.message)
    }
}
