#if os(Linux) || os(macOS)
  import COnnxruntime
  import EdgeCore
  import Foundation

  /// The lowered graph in onnxruntime: token ids in, logits out, keys and values kept between calls.
  public final class OnnxEngine: EdgeCore.Engine {
    public let model: Model
    public private(set) var position = 0
    public let chunk = 256  // prompt tokens a call; bounds the memory of a prompt of any length
    public var context: Int { model.context }
    private let session: OnnxSession
    private let tables: Tables
    private let head: Head?
    private let inputs: Set<String>
    private let outputs: Set<String>
    private var caches: AllKeyValues
    private var rotary: [Kind: RotaryTable]

    /// `library` is the file of onnxruntime, 1.29 or later for what the exporter writes.
    ///
    /// Throws GemmaError if the bundle has no ONNX artifact, onnxruntime cannot load it, or its parts do not fit.
    public init(_ bundle: EdgeCore.Bundle, library: String, threads: Int = 1) throws {
      let artifact = try bundle.artifact("onnx")
      model = bundle.manifest.model
      tables = try Tables(bundle)
      head = Head(model, tables.tokens)
      session = try OnnxSession(library, bundle.path(artifact.file).path, threads)
      inputs = Set(artifact.inputs.map(\.name))
      outputs = Set(artifact.outputs.map(\.name))
      caches = try AllKeyValues(model, chunk: chunk)
      rotary = try model.rope.mapValues(RotaryTable.init)
      try checkFit(bundle)
    }

    public var cancel: @Sendable () -> Void { { [session] in session.cancel() } }

    public func resume() { session.resume() }

    public func reset() throws {
      position = 0
      caches = try AllKeyValues(model, chunk: chunk)
      rotary = try model.rope.mapValues(RotaryTable.init)
    }

    public func save() throws -> Mark { Mark(position: position, kept: try caches.save()) }

    public func restore(_ mark: Mark) throws {
      guard let kept = mark.kept as? SavedKeyValues else {
        throw GemmaError("a mark of another engine", "restore what this engine saved")
      }
      caches.restore(kept)
      position = mark.position
    }

    public func rewind(to position: Int) -> Bool {
      guard caches.rewind(to: position, from: self.position) else { return false }
      self.position = position
      return true
    }

    public func prefetch(_ ids: [Int]) { tables.prefetch(ids) }

    public func forward(_ ids: [Int]) throws -> Step {
      try checkRoom(ids.count)
      try caches.makeRoom(ids.count)
      let rows = max(position + ids.count, caches.layers.map(\.key.rows).max() ?? 0)
      for table in rotary.values { try table.grow(to: rows) }
      let logits = try HostArray(.float32, [1, 1, model.vocabSize])
      let hidden = try HostArray(.float32, [1, 1, model.hiddenSize])
      var (past, present) = cacheArrays()
      present["logits"] = logits
      present["hidden"] = hidden
      past.merge(try feed(ids).filter { inputs.contains($0.key) }) { $1 }
      try session.run(past, present)
      position += ids.count
      caches.advance(ids.count)
      var step = Step(logits: logits.floats(), hidden: hidden.floats())
      try head?.rescore(&step.logits, step.hidden)
      return step
    }

    private func feed(_ ids: [Int]) throws -> [String: HostArray] {
      let (tokens, own, dim) = (ids.count, model.ownKVLayers, model.perLayerDim)
      let positions = (position..<position + tokens).map(Int64.init)
      var fed = [
        "inputs_embeds": try HostArray(tables.embeddings(ids), [1, tokens, model.hiddenSize]),
        "positions": try HostArray(positions, [1, tokens]),
        "positions_kept": try HostArray(positions.suffix(1), [1, 1]),
        "kept": try HostArray([Int64(tokens - 1)], [1]),
      ]
      if dim > 0 {
        let last = Array(ids.suffix(1))
        fed["per_layer_inputs"] = try HostArray(tables.perLayerInputs(ids), [1, tokens, own * dim])
        fed["per_layer_inputs_kept"] = try HostArray(
          tables.perLayerInputsKept(last), [1, 1, (model.layers - own) * dim])
      }
      for (kind, table) in rotary {
        let total = (caches.layers.first { $0.cache.kind == kind }?.length ?? 0) + tokens
        (fed["\(kind).cos"], fed["\(kind).sin"]) = (table.cos, table.sin)
        fed["\(kind).last"] = try HostArray([Int32(total - 1)], [1])
        fed["\(kind).total"] = try HostArray([Int32(total)], [])
      }
      return fed
    }

    /// Past and present of a layer are one array; the layers that read it write there too.
    private func cacheArrays() -> (past: [String: HostArray], present: [String: HostArray]) {
      var (past, present): ([String: HostArray], [String: HostArray]) = ([:], [:])
      for layer in caches.layers {
        let own = layer.cache.layer
        let readers =
          model.sources.indices.filter { model.sources[$0] == own }.map { "present.\($0)" } + ["kept.\(own)"]
        for (part, array) in [("key", layer.key), ("value", layer.value)] {
          past["past.\(own).\(part)"] = array
          for reader in readers where outputs.contains("\(reader).\(part)") { present["\(reader).\(part)"] = array }
        }
      }
      return (past, present)
    }

    /// Throws GemmaError unless the graph has the sizes that the manifest gives.
    private func checkFit(_ bundle: EdgeCore.Bundle) throws {
      let widths = [
        "inputs_embeds": model.hiddenSize, "per_layer_inputs": model.ownKVLayers * model.perLayerDim,
        "per_layer_inputs_kept": (model.layers - model.ownKVLayers) * model.perLayerDim, "logits": model.vocabSize,
        "hidden": model.hiddenSize,
      ]
      let caches = Dictionary(uniqueKeysWithValues: model.caches.map { ("past.\($0.layer).key", $0.headDim) })
      let wrong = widths.merging(caches) { $1 }.filter { $1 > 0 && session.width($0) != $1 }
      guard wrong.isEmpty else {
        let names = wrong.keys.sorted().joined(separator: ", ")
        throw GemmaError(
          "\(bundle.folder.path): \(names) do not have the sizes that bundle.json gives", "export the bundle again")
      }
    }
  }

  /// onnxruntime with a graph.
  private final class OnnxSession: @unchecked Sendable {
    private let handle: OpaquePointer

    init(_ library: String, _ model: String, _ threads: Int) throws {
      var problem: UnsafeMutablePointer<CChar>?
      guard let opened = edge_onnx_open(library, model, Int32(clamping: threads), &problem) else {
        throw GemmaError(
          "\(model): onnxruntime cannot load it: \(OnnxSession.taken(problem))", "export the bundle again")
      }
      handle = opened
    }

    deinit { edge_onnx_close(handle) }

    func width(_ name: String) -> Int { Int(edge_onnx_width(handle, name)) }

    func cancel() { edge_onnx_terminate(handle) }

    func resume() { edge_onnx_resume(handle) }

    /// Throws GemmaError, and CancellationError after `cancel`.
    func run(_ inputs: [String: HostArray], _ outputs: [String: HostArray]) throws {
      let described = (inputs.map(OnnxSession.describe), outputs.map(OnnxSession.describe))
      defer { for one in described.0 + described.1 { free(UnsafeMutablePointer(mutating: one.name)) } }
      var problem: UnsafeMutablePointer<CChar>?
      let counts = (Int32(inputs.count), Int32(outputs.count))
      // The dictionaries hold the arrays until the call is over.
      let result = withExtendedLifetime((inputs, outputs)) {
        edge_onnx_run(handle, described.0, counts.0, described.1, counts.1, &problem)
      }
      guard result != 0 else { return }
      let reason = OnnxSession.taken(problem)
      if result == -2 {
        edge_onnx_resume(handle)
        throw CancellationError()
      }
      throw GemmaError("onnxruntime: \(reason)", "check the bundle with `gemma-edge verify`")
    }

    private static func describe(_ name: String, _ array: HostArray) -> edge_tensor {
      var tensor = edge_tensor()
      tensor.name = UnsafePointer(strdup(name))
      tensor.dtype = code(array.dtype)
      tensor.rank = Int32(array.shape.count)
      withUnsafeMutableBytes(of: &tensor.shape) { shape in
        for (index, size) in array.shape.enumerated() {
          shape.storeBytes(of: Int64(size), toByteOffset: 8 * index, as: Int64.self)
        }
      }
      tensor.data = array.bytes
      tensor.bytes = Int64(array.byteCount)
      return tensor
    }

    private static func code(_ dtype: DType) -> Int32 {
      switch dtype {
      case .float32: Int32(EDGE_FLOAT32)
      case .float16: Int32(EDGE_FLOAT16)
      case .int8: Int32(EDGE_INT8)
      case .uint8: Int32(EDGE_UINT8)
      case .int32: Int32(EDGE_INT32)
      case .int64: Int32(EDGE_INT64)
      case .bool: Int32(EDGE_BOOL)
      }
    }

    private static func taken(_ problem: UnsafeMutablePointer<CChar>?) -> String {
      defer { free(problem) }
      return problem.map { String(cString: $0) } ?? "unknown"
    }
  }
#endif
