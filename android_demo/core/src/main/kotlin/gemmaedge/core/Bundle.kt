package gemmaedge.core

import java.io.File
import java.io.InputStream
import java.nio.file.Files
import java.security.MessageDigest

const val MANIFEST = "bundle.json"
const val SEAL = "bundle.sha256"
const val HASHED_AT_OPEN = 64L shl 20 // larger files are mapped: their size is checked, a verification hashes them

private val NAMES = mapOf("onnx" to "ONNX", "executorch" to "ExecuTorch") // of targets, for people

/** A bundle is a folder, and nothing in it is trusted. */
class Bundle private constructor(val folder: File, val manifest: Manifest) {
    /** A file of the bundle. Throws [GemmaError] for a name that the manifest does not list. */
    fun path(name: String): File {
        if (name !in manifest.files) {
            throw GemmaError("${File(folder, MANIFEST)}: ${quoted(name)} is used but not listed in files", FETCH_AGAIN)
        }
        return File(folder, name)
    }

    /** What the bundle has for a target. Throws [GemmaError] if that is nothing. */
    fun artifact(target: String): Artifact = manifest.artifacts[target] ?: throw GemmaError(
        "$folder: no ${NAMES[target] ?: target} artifact, only ${manifest.artifacts.keys.joinToString().ifEmpty { "nothing" }}",
        "export it again with --to $target",
    )

    /** Hash every file. Throws [GemmaError] at the first that differs. */
    fun checkHashes(progress: (String, Long) -> Unit = { _, _ -> }) {
        for ((name, entry) in manifest.files) {
            checkFile(name, entry, hashed = true)
            progress(name, entry.size)
        }
    }

    private fun checkNames() {
        checkNames(manifest, File(folder, MANIFEST))
        manifest.used.forEach(::path)
    }

    private fun checkFile(name: String, entry: FileEntry, hashed: Boolean) {
        val path = File(folder, name)
        if (Files.isSymbolicLink(path.toPath()) || !path.canonicalFile.startsWith(folder.canonicalFile)) {
            throw GemmaError("$path: a link leads out of the bundle", "a bundle holds only plain files")
        }
        if (!path.isFile) throw GemmaError("$path: missing", FETCH_AGAIN)
        if (path.length() != entry.size) {
            throw GemmaError("$path: ${path.length()} bytes, the manifest says ${entry.size}", FETCH_AGAIN)
        }
        if (!hashed) return
        val digest = path.inputStream().use(::sha256)
        if (digest != entry.sha256) {
            throw GemmaError("$path has the SHA-256 ${digest.take(16)}…, but the manifest says ${entry.sha256.take(16)}…", FETCH_AGAIN)
        }
    }

    companion object {
        /** Open a bundle and check it: manifest, names, sizes, and hashes of all but the large files. */
        fun open(folder: File): Bundle {
            val path = File(folder, MANIFEST)
            if (!path.isFile) {
                throw GemmaError("$folder is not a bundle: it has no $MANIFEST", "give the folder that `gemma-edge export` wrote")
            }
            val seal = File(folder, SEAL).takeIf(File::isFile)?.readBytes()
            val bundle = Bundle(folder, sealedManifest(path.readBytes(), seal, path))
            bundle.checkNames()
            for ((name, entry) in bundle.manifest.files) bundle.checkFile(name, entry, entry.size <= HASHED_AT_OPEN)
            return bundle
        }
    }
}

private val NAME = Regex("[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")

/** Throws [GemmaError] for a name that could lead out of the folder. */
fun checkNames(manifest: Manifest, path: File) {
    for (name in manifest.files.keys) {
        if (!NAME.matches(name)) throw GemmaError("$path: ${quoted(name)} is not a name inside the bundle", FETCH_AGAIN)
    }
}

/** Throws [GemmaError] unless the seal holds, the version is known, and the fields are right. */
fun sealedManifest(raw: ByteArray, seal: ByteArray?, path: File): Manifest {
    try {
        val parsed = parseJson(raw)
        val (format, version) = readVersion(parsed)
        if (format == "gemma-edge" && version.isNotEmpty() && version[0] > MAJOR) {
            throw GemmaError("$path: format ${version.joinToString(".")}, this application reads $MAJOR.x", "upgrade gemma-edge")
        }
        if (seal == null || !seal.contentEquals(sealOf(raw))) throw GemmaError("$path: does not match $SEAL", FETCH_AGAIN)
        return readManifest(parsed)
    } catch (error: JsonError) {
        throw GemmaError("$path: ${error.message}", FETCH_AGAIN, error)
    }
}

/** The line that `sha256sum -c` reads. */
fun sealOf(manifest: ByteArray) = "${sha256(manifest.inputStream())}  $MANIFEST\n".toByteArray()

fun sha256(stream: InputStream): String {
    val digest = MessageDigest.getInstance("SHA-256")
    val buffer = ByteArray(1 shl 16)
    while (true) {
        val count = stream.read(buffer)
        if (count < 0) return hex(digest.digest())
        digest.update(buffer, 0, count)
    }
}

fun hex(bytes: ByteArray) = bytes.joinToString("") { "%02x".format(it) }
