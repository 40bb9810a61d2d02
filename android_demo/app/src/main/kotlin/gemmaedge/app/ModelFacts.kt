package gemmaedge.app

import gemmaedge.core.GemmaError
import gemmaedge.core.Manifest
import gemmaedge.core.MemoryPlan

private const val LONGEST = 8192 // tokens: a longer conversation is for the model's page, not for a chat's default

/** A bundle as the model's page shows it, and what it would take of this phone's memory. */
data class ModelFacts(
    val name: String,
    val recipe: String,
    val disk: Long,
    val resident: Long,
    val flash: Long,
    val context: Int,
    val peak: Long,
    val canThink: Boolean = false,
) {
    companion object {
        /** Throws [GemmaError], with what would be needed, if not even the shortest context fits [room] bytes. */
        fun of(manifest: Manifest, room: Long): ModelFacts {
            val fits = MemoryPlan.longestContext(manifest, room) { MemoryPlan.ofApplication(manifest, it) }
            if (fits == 0) {
                val needed = MemoryPlan.ofApplication(manifest, 1).peak
                throw GemmaError(
                    "${manifest.provenance.checkpoint} needs ${needed / 1_000_000} MB of memory, and ${room / 1_000_000} MB are free",
                    "close other applications, or take a bundle with fewer bits",
                )
            }
            val context = minOf(fits, LONGEST)
            val plan = MemoryPlan.ofApplication(manifest, context)
            return ModelFacts(
                name = manifest.provenance.checkpoint, recipe = manifest.recipe.name, disk = manifest.diskBytes,
                resident = plan.weights, flash = manifest.flashBytes, context = plan.context, peak = plan.peak,
            )
        }
    }
}
