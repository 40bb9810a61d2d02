package gemmaedge.core

/** The row files of a bundle, by name. Throws [GemmaError] unless they have the sizes that the manifest gives. */
fun openTables(bundle: Bundle): Map<String, RowTable> {
    val model = bundle.manifest.model
    val tables = bundle.manifest.tables.mapValues { (_, table) -> RowTable(bundle.path(table.file), table.multiplier.toFloat()) }
    val expected = buildMap {
        put("tokens", 1 to model.hiddenSize)
        if (model.perLayerDim > 0) put("per_layer", model.layers to model.perLayerDim)
    }
    if (tables.mapValues { it.value.format.layers to it.value.format.dim } == expected) return tables
    tables.values.forEach(RowTable::close)
    throw GemmaError("${bundle.folder}: the row files do not have the sizes that bundle.json gives", "export the bundle again")
}

/** The two-stage head, if the model has one. */
fun openHead(model: Model, tables: Map<String, RowTable>): Head? =
    if (model.rescored > 0) Head(tables.getValue("tokens"), model.rescored, model.softcap) else null
