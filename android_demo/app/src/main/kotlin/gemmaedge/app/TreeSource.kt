package gemmaedge.app

import android.content.ContentResolver
import android.net.Uri
import android.os.Bundle
import android.provider.DocumentsContract
import android.provider.DocumentsContract.Document
import gemmaedge.core.BundleSource
import java.io.IOException
import java.io.InputStream

/** A folder that the system's picker gave; its documents are found by their names, part by part. */
class TreeSource(private val resolver: ContentResolver, private val tree: Uri) : BundleSource {
    private val children = HashMap<String, Map<String, String>>() // document ids by name, by the folder's document id

    override fun open(name: String): InputStream? {
        var id = DocumentsContract.getTreeDocumentId(tree)
        for (part in name.split('/')) id = children.getOrPut(id) { list(id) }[part] ?: return null
        val document = DocumentsContract.buildDocumentUriUsingTree(tree, id)
        return resolver.openInputStream(document) ?: throw IOException("$name can not be read")
    }

    private fun list(folder: String): Map<String, String> {
        val uri = DocumentsContract.buildChildDocumentsUriUsingTree(tree, folder)
        val columns = arrayOf(Document.COLUMN_DOCUMENT_ID, Document.COLUMN_DISPLAY_NAME)
        val rows = resolver.query(uri, columns, null as Bundle?, null) ?: throw IOException("the folder $tree can not be read")
        return rows.use { buildMap { while (it.moveToNext()) put(it.getString(1), it.getString(0)) } }
    }
}
