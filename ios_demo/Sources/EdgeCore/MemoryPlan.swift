/// How much memory a bundle takes at its peak, for a context length, before it is loaded.
///
/// Row tables do not count: they stay on flash.  What the engine allocates is in the manifest, computed by the
/// exporter from the graph's own tensors; where it is not, the size of the weights' file stands for it.
///
/// base: the process and its libraries; weights: the graph's; loading: more while they are packed; caches: keys and
/// values; rotary: positions; growing: an old array beside the new one; activations: of a call;
/// floats: int8 caches while a call of a prompt reads them
public struct MemoryPlan: Sendable, Equatable {
  /// Of edge-cli on Linux with onnxruntime 1.32, less the other parts; nobody has measured a phone.
  public static let base = 55_000_000

  public let context: Int
  public let weights: Int
  public let loading: Int
  public let caches: Int
  public let rotary: Int
  public let growing: Int
  public let activations: Int
  public let floats: Int

  /// Throws GemmaError for a bundle without the target's artifact.
  public init(_ manifest: Manifest, target: String, context: Int) throws {
    guard let artifact = manifest.artifacts[target], let data = manifest.files[artifact.data] else {
      throw GemmaError("the bundle has no \(target) artifact", "export it with --to \(target)")
    }
    let model = manifest.model
    self.context = min(context, model.context)
    let (rows, step) = (MemoryPlan.stepped(self.context), KeyValues.step)
    let sizes = MemoryPlan.Sizes(model: model, artifact: artifact)
    weights = artifact.memory.weights > 0 ? artifact.memory.weights : data.size
    loading = artifact.memory.loading
    rotary = sizes.rotary(rows)
    activations = sizes.activations(min(self.context, artifact.functions["prefill"] ?? MemoryPlan.chunk))
    floats = artifact.memory.row * min(self.context, artifact.memory.rows)
    if artifact.states.isEmpty {
      caches = sizes.caches(rows)
      growing = model.caches.filter { $0.kind == .full }.map { sizes.bytes($0, rows - step) / 2 }.max() ?? 0
    } else {
      caches = sizes.states
      growing = 0
    }
  }

  public var peak: Int {
    MemoryPlan.base + weights + max(loading, caches + rotary + growing + activations + floats)
  }

  /// Every part by its name, for people.
  public var parts: [(name: String, bytes: Int)] {
    [
      ("base", MemoryPlan.base), ("weights", weights), ("loading", loading), ("caches", caches), ("rotary", rotary),
      ("growing", growing), ("activations", activations), ("floats", floats),
    ]
  }

  /// The most tokens, in steps of the caches, that fit `room` bytes; 0 if none do.
  public static func longestContext(_ manifest: Manifest, target: String, room: Int) throws -> Int {
    var (low, high) = (0, stepped(manifest.model.context) / KeyValues.step)
    while low < high {
      let middle = (low + high + 1) / 2
      let fits = try MemoryPlan(manifest, target: target, context: middle * KeyValues.step).peak <= room
      (low, high) = fits ? (middle, high) : (low, middle - 1)
    }
    return min(low * KeyValues.step, manifest.model.context)
  }

  /// Throws GemmaError, with what would fit, if a context does not.
  public static func checkRoom(_ manifest: Manifest, target: String, context: Int, room: Int) throws {
    let needed = try MemoryPlan(manifest, target: target, context: context).peak
    guard needed > room else { return }
    let fitting = try longestContext(manifest, target: target, room: room)
    throw GemmaError(
      "a context of \(context) tokens needs \(needed / 1_000_000) MB, and \(room / 1_000_000) MB are available",
      fitting > 0 ? "\(fitting) tokens fit" : "close other apps, or export with fewer bits")
  }

  private static let chunk = 256  // prompt tokens a call

  private static func stepped(_ rows: Int) -> Int { (rows + KeyValues.step - 1) / KeyValues.step * KeyValues.step }

  /// Sizes in bytes of what an engine allocates.
  private struct Sizes {
    let model: Model
    let artifact: Artifact

    /// Keys and values of a layer.
    func bytes(_ cache: Cache, _ rows: Int) -> Int {
      let held = cache.kind == .sliding ? model.window + max(chunk, KeyValues.slack) : rows
      return 2 * cache.dtype.bytes * cache.kvHeads * cache.headDim * held
    }

    /// Of all layers, and of the sliding ones again for each end of a turn.
    func caches(_ rows: Int) -> Int {
      let kept = model.caches.filter { $0.kind == .sliding }.map { bytes($0, 0) }.reduce(0, +)
      return model.caches.map { bytes($0, rows) }.reduce(0, +) + Session.turns * kept
    }

    /// What the engine keeps, and copies of the sliding layers' for each end of a turn.
    var states: Int {
      func bytes(_ states: [Tensor]) -> Int { states.compactMap(\.byteCount).reduce(0, +) }
      return bytes(artifact.states) + Session.turns * bytes(artifact.states.filter { $0.name.hasPrefix("sliding") })
    }

    func rotary(_ rows: Int) -> Int {
      let longest = model.caches.contains { $0.kind == .sliding } ? max(rows, model.window + chunk) : rows
      return model.rope.values.map { 2 * 4 * longest * ($0.headDim / 2) }.reduce(0, +)
    }

    /// What the graph holds at its widest, rows as floats, and logits: the graph's, ours and the sampler's.
    func activations(_ tokens: Int) -> Int {
      let rows = tokens * 4 * (model.hiddenSize + model.layers * model.perLayerDim)
      return tokens * artifact.memory.token + 2 * rows + 4 * 4 * model.vocabSize
    }
  }
}
