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

    private fun model(ranges: String) = readManifest(
        parseJson(text.replace(Regex("\"rescored\": \\d+"), "\"rescored\": 0").replace(Regex(",\\s*\"static_ranges\": \\w+"), ranges)
            .replaceFirst(Regex("\"recipe\": \\{\\s*\"name\": \"[^\"]+\""), "\"recipe\": {\"name\": \"as-released\"")),
    )

    @Test fun aBundleSaysWhetherItHasTheRangesOfItsRelease() {
        assertEquals(true, model(", \"static_ranges\": true").model.staticRanges)
        assertFalse(model(", \"static_ranges\": true").lostRanges)
        assertFalse("a release without ranges lost none", model(", \"static_ranges\": false").lostRanges)
        assertTrue("an older exporter dropped them", model("").lostRanges)
        assertFalse("floats never had some", readManifest(parseJson(text)).lostRanges)
    }

    private fun specialTokens(said: String): Map<String, String> {
        val without = text.replace(Regex("\"special_tokens\": \\{[^}]*\\},\\s*"), "")
        assertFalse("special_tokens" in without)
        return readManifest(parseJson(without.replaceFirst("{", "{$said"))).specialTokens
    }

    @Test fun aBundleMaySayTheSpecialTokensOfItsTemplate() {
        assertEquals("an older bundle says nothing", emptyMap<String, String>(), specialTokens(""))
        assertEquals(mapOf("eos_token" to "<eos>"), specialTokens("\"special_tokens\": {\"eos_token\": \"<eos>\"}, "))
        val refused = assertThrows(JsonError::class.java) { specialTokens("\"special_tokens\": {\"eos_token\": 1}, ") }
        assertEquals("Expected `str` - at `\$.special_tokens[...]`", refused.message)
    }

    private fun withParts(parts: String) = readManifest(parseJson(text.replaceFirst("{", "{\"parts\": {$parts}, ")))

    @Test fun aBundleMayHavePartsAndThoseOfALaterVersionAreRead() {
        assertEquals("a bundle of 1.0 has none", emptyMap<String, Part>(), readManifest(parseJson(text)).parts)
        val artifact = """{"file": "onnx/decoder.onnx", "data": "", "inputs": [], "outputs": [], "operators": {}, "news": 1}"""
        val settings = """{"on": true, "size": -3, "scale": 0.5, "name": "x", "sizes": [70, 0.5]}"""
        val function = """{"name": "draft", "inputs": [], "outputs": [], "news": 1}"""
        val manifest = withParts(
            """"later": {"kind": "later", "artifacts": {"npu": $artifact}, "settings": $settings, "functions": {"onnx": [$function]}, "news": {}}""",
        )
        val part = manifest.parts.getValue("later")
        assertEquals("later" to "draft", part.kind to part.functions.getValue("onnx").single().name)
        assertEquals(mapOf("on" to true, "size" to -3L, "scale" to 0.5, "name" to "x", "sizes" to listOf(70L, 0.5)), part.settings)
        assertTrue("golden/x.json" in withParts(""""vision": {"kind": "tower", "golden": "golden/x.json"}""").used)
    }

    @Test fun theMemoryOfAnArtifactHasTheNamesOfTheFormat() {
        val memory = onnx(text.replaceFirst(Regex("\"score\": \\d+"), "\"score\": 7")).memory
        assertEquals(7L, memory.score)
        assertEquals(readManifest(parseJson(text)).artifacts.getValue("onnx").memory.copy(score = 7), memory)
    }
}
