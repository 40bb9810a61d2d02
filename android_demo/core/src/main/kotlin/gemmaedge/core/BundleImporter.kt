package gemmaedge.core

import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.InputStream
import java.security.MessageDigest

/** Where a bundle comes from: a folder on flash, or one that the system's picker gave. */
interface BundleSource {
    /** A file by its name in the bundle, with `/` between parts; null if there is none. */
    fun open(name: String): InputStream?
}

/** A plain folder, as adb pushes it. */
class FolderSource(private val folder: File) : BundleSource {
    override fun open(name: String): InputStream? = File(folder, name).takeIf(File::isFile)?.inputStream()
}

/**
 * Copies a bundle into [folder], which appears only when every file is whole and has its hash. What an interrupted
 * import left is gone on with: files that are whole are not copied again, the last one is continued.
 */
class BundleImporter(private val source: BundleSource, private val folder: File) {
    private val part = File(folder.path + ".part")

    /** Reads the manifest alone. Throws [GemmaError] if it is none, or if a name would lead out of the folder. */
    fun manifest(): Manifest {
        val raw = bytes(MANIFEST) ?: throw GemmaError("the folder is not a bundle, it has no $MANIFEST", "pick the folder that `gemma-edge export` wrote")
        val path = File(MANIFEST)
        return sealedManifest(raw, bytes(SEAL), path).also { checkNames(it, path) }
    }

    /** [progress] gets the bytes copied so far, and returns false to stop; then the rest can be imported later. */
    fun run(progress: (Long) -> Boolean): Boolean {
        val manifest = manifest()
        val room = part.apply { mkdirs() }.usableSpace + part.walk().sumOf { if (it.isFile) it.length() else 0 }
        if (manifest.diskBytes > room) {
            throw GemmaError("the bundle takes ${manifest.diskBytes / 1_000_000} MB, and ${room / 1_000_000} MB are free", "free some space")
        }
        var done = 0L
        for ((name, entry) in manifest.files) {
            if (!copy(name, entry) { progress(done + it) }) return false
            done += entry.size
        }
        File(part, MANIFEST).writeBytes(bytes(MANIFEST)!!)
        File(part, SEAL).writeBytes(bytes(SEAL)!!)
        Bundle.open(part)
        folder.deleteRecursively()
        if (!part.renameTo(folder)) throw IOException("$part can not be renamed to $folder")
        return true
    }

    /** Forget what an interrupted import left. */
    fun discard() = part.deleteRecursively()

    private fun bytes(name: String): ByteArray? = source.open(name)?.use { stream ->
        val buffer = ByteArray(MOST)
        var count = 0
        while (count < MOST) {
            val read = stream.read(buffer, count, MOST - count)
            if (read < 0) return buffer.copyOf(count)
            count += read
        }
        throw GemmaError("$name: more than $MOST bytes", FETCH_AGAIN)
    }

    private fun copy(name: String, entry: FileEntry, progress: (Long) -> Boolean): Boolean {
        val target = File(part, name).apply { parentFile!!.mkdirs() }
        val digest = MessageDigest.getInstance("SHA-256")
        var count = if (target.length() <= entry.size) target.length() else 0L
        if (count > 0) target.inputStream().use { hash(it, digest) } else target.delete()
        val stream = source.open(name) ?: throw GemmaError("$name: missing", FETCH_AGAIN)
        stream.use { input ->
            skip(input, count, name)
            FileOutputStream(target, count > 0).use { output ->
                val buffer = ByteArray(1 shl 20)
                while (true) {
                    if (!progress(count)) return false
                    val read = input.read(buffer)
                    if (read < 0) break
                    count += read
                    if (count > entry.size) break
                    output.write(buffer, 0, read)
                    digest.update(buffer, 0, read)
                }
                output.fd.sync()
            }
        }
        if (count != entry.size || hex(digest.digest()) != entry.sha256) {
            target.delete() // a second try begins again
            throw GemmaError("$name: $count bytes that are not those of the manifest", FETCH_AGAIN)
        }
        return true
    }

    private fun hash(stream: InputStream, digest: MessageDigest) {
        val buffer = ByteArray(1 shl 20)
        while (true) {
            val read = stream.read(buffer)
            if (read < 0) return
            digest.update(buffer, 0, read)
        }
    }

    private fun skip(stream: InputStream, bytes: Long, name: String) {
        var left = bytes
        while (left > 0) {
            val skipped = stream.skip(left)
            left -= if (skipped > 0) skipped else if (stream.read() >= 0) 1L else throw GemmaError("$name: shorter than before", FETCH_AGAIN)
        }
    }

    private companion object {
        const val MOST = 16 shl 20 // of a manifest
    }
}
