#if canImport(CExecuTorch)
  import CExecuTorch
  import EdgeCore
  import Foundation

  /// The lowered program in ExecuTorch: two methods that own their caches.
  public final class ExecutorchEngine: EdgeCore.Engine {
    private static let few = 8  // tokens: as fast one by one as in a call of many

    public let model: Model
    public private(set) var position = 0
    public let chunk: Int
    public let context: Int
    private let program: Program
    private let tables: Tables
    private let head: Head?
    private let inputs: [Tensor]  // of `decode`, in order
    private let rotary: [Kind: RotaryTable]
    private var slots: [Kind: Slots] = [:]

    /// Throws GemmaError if the bundle has no ExecuTorch artifact, ExecuTorch cannot load it, or its parts do not fit.
    public init(_ bundle: EdgeCore.Bundle) throws {
      let artifact = try bundle.artifact("executorch")
      model = bundle.manifest.model
      tables = try Tables(bundle)
      head = Head(model, tables.tokens)
      inputs = artifact.inputs
      chunk = artifact.functions["prefill"] ?? 0
      rotary = try model.rope.mapValues(RotaryTable.init)
      context = min(model.context, artifact.context > 0 ? artifact.context : model.context)
      program = try Program(bundle.path(artifact.file).path)
      guard chunk > 0, rotary.keys.allSatisfy({ rows($0) >= needed($0) }) else {
        throw GemmaError("\(bundle.folder.path): the caches are too small for the model", "export the bundle again")
      }
      try reset()
    }

    /// Rows of the caches of a kind of layer.
    private func rows(_ kind: Kind) -> Int {
      inputs.first { $0.name == "\(kind).mask" }?.shape.last.flatMap { $0 } ?? 0
    }

    private func needed(_ kind: Kind) -> Int { kind == .sliding ? model.window + chunk - 1 : context }

    /// ExecuTorch ends no call early; one takes a part of a second.
    public var cancel: @Sendable () -> Void { {} }

    public func resume() {}

    public func reset() throws {
      position = 0
      for kind in rotary.keys { slots[kind] = Slots(rows: rows(kind), window: kind == .sliding ? model.window : 0) }
    }

    public func prefetch(_ ids: [Int]) { tables.prefetch(ids) }

    public func forward(_ ids: [Int]) throws -> Step {
      try checkRoom(ids.count)
      guard let last = ids.last else { throw GemmaError("a call without tokens", "give at least one") }
      let before = Array(ids.dropLast())
      if before.count > ExecutorchEngine.few {
        try read(before)
      } else {
        for id in before { _ = try step(id) }
      }
      var found = try step(last)
      try head?.rescore(&found.logits, found.hidden)
      return found
    }

    /// Keys and values of up to `chunk` tokens: the last stands in for those that are not there.
    private func read(_ ids: [Int]) throws {
      let padded = ids + [Int](repeating: ids[ids.count - 1], count: chunk - ids.count)
      let positions = padded.indices.map { position + min($0, ids.count - 1) }
      try program.run("prefill", fed(padded, positions, whole: false), [])
      position += ids.count
    }

    private func step(_ id: Int) throws -> Step {
      let logits = try HostArray(.float32, [1, 1, model.vocabSize])
      let hidden = try HostArray(.float32, [1, 1, model.hiddenSize])
      try program.run("decode", fed([id], [position], whole: true), [logits, hidden])
      position += 1
      return Step(logits: logits.floats(), hidden: hidden.floats())
    }

    /// Inputs of a method, in order.
    private func fed(_ ids: [Int], _ positions: [Int], whole: Bool) throws -> [HostArray] {
      let (count, own, dim) = (ids.count, model.ownKVLayers, model.perLayerDim)
      var given = ["inputs_embeds": try HostArray(tables.embeddings(ids), [1, count, model.hiddenSize])]
      if dim > 0 {
        given["per_layer_inputs"] = try HostArray(tables.perLayerInputs(ids), [1, count, own * dim])
        given["per_layer_inputs_kept"] = try HostArray(
          tables.perLayerInputsKept(ids), [1, count, (model.layers - own) * dim])
      }
      for (kind, table) in rotary {
        try table.grow(to: (positions.last ?? 0) + 1)
        let (cos, sin) = table.gather(positions)
        let taken = slots[kind]!.take(positions)
        given["\(kind).slots"] = try HostArray(taken.map(Int64.init), [count])
        given["\(kind).mask"] = try HostArray(slots[kind]!.mask(positions), [count, slots[kind]!.held.count])
        given["\(kind).cos"] = try HostArray(cos, [count, table.pairs])
        given["\(kind).sin"] = try HostArray(sin, [count, table.pairs])
      }
      return try inputs.map(\.name).filter { whole || $0 != "per_layer_inputs_kept" }.map { name in
        guard let array = given[name] else {
          throw GemmaError("the program asks for \(name), which nobody has", "export the bundle again")
        }
        return array
      }
    }

    // ---- going back ----

    private struct Kept {
      let slots: [Kind: Slots]
      let rings: [String: [UInt8]]
    }

    /// Rows of full layers that are in use are not written again: their numbers are enough.
    public func save() throws -> Mark {
      let rings = try Dictionary(uniqueKeysWithValues: ringNames.map { ($0, Array(try program.state($0))) })
      return Mark(position: position, kept: Kept(slots: slots, rings: rings))
    }

    public func restore(_ mark: Mark) throws {
      guard let kept = mark.kept as? Kept else {
        throw GemmaError("a mark of another engine", "restore what this engine saved")
      }
      for (name, bytes) in kept.rings { try program.state(name).copyBytes(from: bytes) }
      (slots, position) = (kept.slots, mark.position)
    }

    public func rewind(to position: Int) -> Bool {
      guard slots.values.allSatisfy({ $0.reaches(position) }) else { return false }
      for kind in slots.keys { slots[kind]!.rewind(to: position) }
      self.position = position
      return true
    }

    /// The sliding layers' caches, as the program names them.
    private var ringNames: [String] {
      model.caches.filter { $0.kind == .sliding }.flatMap { ["cache_\($0.layer)_key", "cache_\($0.layer)_value"] }
    }
  }

  /// A program that is loaded.
  private final class Program {
    private let handle: OpaquePointer

    init(_ path: String) throws {
      var problem: UnsafeMutablePointer<CChar>?
      guard let opened = edge_executorch_open(path, &problem) else {
        throw GemmaError("\(path): ExecuTorch cannot load it: \(Program.taken(problem))", "export the bundle again")
      }
      handle = opened
    }

    deinit { edge_executorch_close(handle) }

    func run(_ method: String, _ inputs: [HostArray], _ outputs: [HostArray]) throws {
      var problem: UnsafeMutablePointer<CChar>?
      let described = (inputs.map(Program.describe), outputs.map(Program.describe))
      let counts = (Int32(inputs.count), Int32(outputs.count))
      let result = withExtendedLifetime((inputs, outputs)) {
        edge_executorch_run(handle, method, described.0, counts.0, described.1, counts.1, &problem)
      }
      guard result == 0 else {
        throw GemmaError("ExecuTorch: \(Program.taken(problem))", "check the bundle with `gemma-edge verify`")
      }
    }

    func state(_ name: String) throws -> UnsafeMutableRawBufferPointer {
      var (problem, data, bytes): (UnsafeMutablePointer<CChar>?, UnsafeMutableRawPointer?, Int64) = (nil, nil, 0)
      guard edge_executorch_state(handle, name, &data, &bytes, &problem) == 0 else {
        throw GemmaError("ExecuTorch: \(name): \(Program.taken(problem))", "export the bundle again")
      }
      return UnsafeMutableRawBufferPointer(start: data, count: Int(bytes))
    }

    private static func describe(_ array: HostArray) -> edge_executorch_array {
      var made = edge_executorch_array()
      made.data = array.bytes
      made.is_int64 = array.dtype == .int64 ? 1 : 0
      made.rank = Int32(array.shape.count)
      withUnsafeMutableBytes(of: &made.shape) { shape in
        for (index, size) in array.shape.enumerated() {
          shape.storeBytes(of: Int32(size), toByteOffset: 4 * index, as: Int32.self)
        }
      }
      return made
    }

    private static func taken(_ problem: UnsafeMutablePointer<CChar>?) -> String {
      defer { free(problem) }
      return problem.map { String(cString: $0) } ?? "unknown"
    }
  }
#endif
