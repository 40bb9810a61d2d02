package gemmaedge.app

import android.content.pm.ProviderInfo
import android.database.Cursor
import android.database.MatrixCursor
import android.net.Uri
import android.os.CancellationSignal
import android.os.ParcelFileDescriptor
import android.provider.DocumentsContract
import android.provider.DocumentsContract.Document
import android.provider.DocumentsProvider
import java.io.File
import org.robolectric.Robolectric

/** A folder as the system's picker hands it out: document ids are paths below it. */
class FolderProvider : DocumentsProvider() {
    override fun onCreate() = true
    override fun queryRoots(projection: Array<String>?) = MatrixCursor(arrayOf())
    override fun queryDocument(id: String, projection: Array<String>?) = rows(listOf(file(id)))
    override fun queryChildDocuments(parent: String, projection: Array<String>?, order: String?): Cursor = rows(file(parent).listFiles()!!.toList())
    override fun isChildDocument(parent: String, child: String) = true
    override fun openDocument(id: String, mode: String, signal: CancellationSignal?): ParcelFileDescriptor =
        ParcelFileDescriptor.open(file(id), ParcelFileDescriptor.MODE_READ_ONLY)

    private fun file(id: String) = if (id == ROOT) folder else File(folder, id)

    private fun rows(files: List<File>) = MatrixCursor(arrayOf(Document.COLUMN_DOCUMENT_ID, Document.COLUMN_DISPLAY_NAME)).apply {
        for (file in files) addRow(arrayOf(file.relativeTo(folder).path, file.name))
    }

    companion object {
        private const val AUTHORITY = "gemmaedge.folder"
        private const val ROOT = "root"
        private lateinit var folder: File

        /** The tree that a picker returns for a folder. */
        fun share(shared: File): Uri {
            folder = shared
            val info = ProviderInfo().apply {
                authority = AUTHORITY
                exported = true
                grantUriPermissions = true
                readPermission = android.Manifest.permission.MANAGE_DOCUMENTS
                writePermission = android.Manifest.permission.MANAGE_DOCUMENTS
            }
            Robolectric.buildContentProvider(FolderProvider::class.java).create(info)
            return DocumentsContract.buildTreeDocumentUri(AUTHORITY, ROOT)
        }
    }
}
