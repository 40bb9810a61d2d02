package gemmaedge.core

import java.io.File
import java.io.InputStream
import java.nio.file.Files
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class BundleImporterTest {
    private val place = Files.createTempDirectory("import").toFile()
    private val target = File(place, "model")
    private val opened = ArrayList<String>()

    private inner class Counted(private val source: BundleSource) : BundleSource {
        override fun open(name: String): InputStream? = source.open(name).also { opened += name }
    }

    private fun importer(source: BundleSource = FolderSource(GoldenSet.INT4.bundle)) = BundleImporter(Counted(source), target)

    @After fun clean() {
        place.deleteRecursively()
    }

    @Test fun aBundleIsCopiedWithProgressAndOpens() {
        val steps = ArrayList<Long>()
        assertTrue(importer().run { steps.add(it) })
        assertEquals(Bundle.open(GoldenSet.INT4.bundle).manifest, Bundle.open(target).manifest)
        assertEquals(steps.sorted(), steps)
        assertEquals(Bundle.open(target).manifest.diskBytes, steps.last())
    }

    @Test fun anInterruptedImportGoesOnWhereItStopped() {
        val half = Bundle.open(GoldenSet.INT4.bundle).manifest.diskBytes / 2
        assertFalse(importer().run { it < half })
        assertFalse(target.exists())
        val first = ArrayList<Long>()
        assertTrue(importer().run { first.add(it) })
        Bundle.open(target)
        val bytes = File(place, "model").walk().filter { it.isFile }.sumOf { it.length() }
        assertTrue(bytes > half)
    }

    @Test fun aDamagedFileIsRefusedAndNothingAppears() {
        val source = object : BundleSource {
            override fun open(name: String): InputStream? {
                val file = File(GoldenSet.INT4.bundle, name)
                if (name != "onnx/decoder.data") return file.inputStream()
                return file.readBytes().also { it[5000] = (it[5000] + 1).toByte() }.inputStream()
            }
        }
        val error = assertThrows(GemmaError::class.java) { importer(source).run { true } }
        assertTrue(error.sentence, error.sentence.startsWith("onnx/decoder.data: "))
        assertFalse(target.exists())
        assertTrue(importer().run { true }) // a sound copy, later
    }

    @Test fun hostileBundlesAreRefusedBeforeAFileIsWritten() {
        for (case in GoldenSet.INT4.lines("hostile.jsonl").filter { it.text("name").startsWith("name ") }) {
            assertThrows(case.text("name"), GemmaError::class.java) {
                importer(FolderSource(File(GoldenSet.INT4.folder, case.text("folder")))).run { true }
            }
            assertEquals(listOf(MANIFEST, SEAL), opened)
            opened.clear()
        }
        assertEquals(emptyList<String>(), place.list()!!.toList())
    }

    @Test fun aFolderThatIsNoBundleIsRefused() {
        val error = assertThrows(GemmaError::class.java) { importer(FolderSource(place)).run { true } }
        assertEquals("the folder is not a bundle, it has no bundle.json", error.sentence)
    }
}
