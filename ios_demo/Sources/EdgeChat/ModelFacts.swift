import EdgeCore

/// What a person wants to know of a bundle before it is loaded.
public struct ModelFacts: Sendable {
  public let name: String
  public let recipe: String
  /// Bytes on flash, and of these the rows that are read one by one and never stay in memory.
  public let diskBytes: Int
  public let rowBytes: Int
  /// The context that was looked at, and bytes at its peak.
  public let context: Int
  public let peakBytes: Int
  /// Why it can not be loaded, for people; nil if it can.
  public let refusal: String?

  /// `available`: bytes that this process may still take.
  ///
  /// Throws GemmaError for a bundle without the target's artifact.
  public init(_ bundle: Bundle, target: String, context wanted: Int, available: Int) throws {
    let manifest = bundle.manifest
    let plan = try MemoryPlan(manifest, target: target, context: wanted)
    (name, recipe) = (manifest.provenance.checkpoint, manifest.recipe.name)
    diskBytes = manifest.files.values.reduce(0) { $0 + $1.size }
    rowBytes = manifest.tables.values.reduce(0) { $0 + (manifest.files[$1.file]?.size ?? 0) }
    (context, peakBytes) = (plan.context, plan.peak)
    do {
      try MemoryPlan.checkRoom(manifest, target: target, context: wanted, room: available)
      refusal = nil
    } catch let error as GemmaError {
      refusal = error.description
    }
  }
}
