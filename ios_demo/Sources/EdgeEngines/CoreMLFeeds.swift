import EdgeCore
import Foundation

/// What the calls of a Core ML artifact are fed, by feature name: FORMAT.md, "The Core ML artifact".
///
/// Nothing here needs Core ML, so that it is tested where there is none.
public struct CoreMLFeeds {
  public static let prefill = "prefill"
  public static let decode = "decode"
  public static let logits = "logits"
  public static let hidden = "hidden"
  static let unseen: Float = -3e4  // added to the score of a key that a query does not see; float16 has it too

  /// Tokens of a call of `prefill`.
  public let tokens: Int
  /// Rows of the states of each kind of layer.
  public let rows: [Kind: Int]
  /// Most positions.
  public let context: Int
  private let model: Model
  private let tables: Tables
  private let rotary: [Kind: RotaryTable]
  private let names: Set<String>

  /// Throws GemmaError if the bundle has no Core ML artifact, or one without the parts that FORMAT.md names.
  public init(_ bundle: EdgeCore.Bundle) throws {
    let artifact = try bundle.artifact("coreml")
    guard let tokens = artifact.functions[CoreMLFeeds.prefill], tokens > 1, !artifact.states.isEmpty else {
      throw GemmaError("\(bundle.folder.path): the Core ML artifact has no function of many tokens", "export it again")
    }
    (model, self.tokens) = (bundle.manifest.model, tokens)
    tables = try Tables(bundle)
    rows = try CoreMLFeeds.rows(artifact.states)
    context = min(model.context, rows[.full] ?? model.context)
    rotary = try model.rope.filter { [rows] in rows[$0.key] != nil }.mapValues(RotaryTable.init)
    names = Set(artifact.inputs.map(\.name))
  }

  /// States are `sliding_key`, `full_value` and so on, (layers, heads, rows, dim).
  private static func rows(_ states: [Tensor]) throws -> [Kind: Int] {
    var found: [Kind: Int] = [:]
    for state in states {
      guard let kind = Kind(rawValue: String(state.name.prefix { $0 != "_" })), state.shape.count == 4,
        let rows = state.shape[2], rows > 0, rows == found[kind, default: rows]
      else {
        throw GemmaError("state \(state.name): not rows of a kind of layers", "export the bundle again")
      }
      found[kind] = rows
    }
    return found
  }

  /// The states, by name, that hold the windows of sliding layers: what a call moves.
  public static let moving = ["sliding_key", "sliding_value"]

  public func prefetch(_ ids: [Int]) { tables.prefetch(ids) }

  /// The second stage of the head, if the bundle has one.
  func head() -> Head? { Head(model, tables.tokens) }

  /// Whether a call of `prefill` has room for its padding.
  public func fits(at position: Int) -> Bool { position + tokens <= rows[.full] ?? Int.max }

  /// Of `prefill` for up to `tokens` ids, or of `decode` for one.
  public func call(_ function: String, _ ids: [Int], at position: Int) throws -> [String: HostArray] {
    let size = function == CoreMLFeeds.decode ? 1 : tokens
    precondition(!ids.isEmpty && ids.count <= size)
    var fed = try embeddings(ids, size)
    fed["position"] = try HostArray([Int32(position)], [1])
    if size > 1 {
      fed["kept"] = try HostArray([Int32(ids.count - 1)], [1])
      fed["tokens"] = try HostArray([Int32(ids.count)], [1])
    }
    for (kind, table) in rotary {
      try table.grow(to: position + size)
      let (cos, sin) = table.gather(Array(position..<position + size))
      fed["\(kind)_cos"] = try HostArray(cos, [1, 1, size, table.pairs])
      fed["\(kind)_sin"] = try HostArray(sin, [1, 1, size, table.pairs])
      fed["\(kind)_mask"] = try mask(kind, position, size)
    }
    return fed.filter { names.contains($0.key) }
  }

  private func embeddings(_ ids: [Int], _ size: Int) throws -> [String: HostArray] {
    let (own, dim) = (model.ownKVLayers, model.perLayerDim)
    var fed = ["inputs_embeds": try padded(tables.embeddings(ids), [1, size, model.hiddenSize])]
    if dim > 0 {
      fed["per_layer_inputs"] = try padded(tables.perLayerInputs(ids), [1, size, own * dim])
      fed["per_layer_inputs_kept"] = try HostArray(
        tables.perLayerInputsKept(Array(ids.suffix(1))), [1, 1, (model.layers - own) * dim])
    }
    return fed
  }

  /// Zeros behind the values.
  private func padded(_ values: [Float], _ shape: [Int]) throws -> HostArray {
    let missing = shape.reduce(1, *) - values.count
    return try HostArray(values + [Float](repeating: 0, count: missing), shape)
  }

  /// (1, 1, size, rows + size): 0 where a query sees a key.  Columns are the state's rows, of a full layer from
  /// position 0 on, of a sliding layer up to the last position; then the call's own tokens.
  private func mask(_ kind: Kind, _ position: Int, _ size: Int) throws -> HostArray {
    let past = rows[kind] ?? 0
    let first = kind == .full ? 0 : position - past
    var values = [Float](repeating: CoreMLFeeds.unseen, count: size * (past + size))
    for query in 0..<size {
      for column in 0..<past + size {
        let key = column < past ? first + column : position + column - past
        let known = column >= past || (key >= 0 && key < position)
        let near = kind == .full || position + query - key < model.window
        if known && near && key <= position + query { values[query * (past + size) + column] = 0 }
      }
    }
    return try HostArray(values, [1, 1, size, past + size])
  }

  /// Whether a window still holds what a query at `position` sees, coming back from position `at`.
  public func canRewind(to position: Int, from at: Int) -> Bool {
    guard let held = rows[.sliding] else { return true }
    return max(0, min(at, held) - (at - position)) >= min(position, model.window - 1)
  }
}

/// Rows of a state (layers, heads, rows, dim) of float16, wherever its strides put them.
enum StateRows {
  /// Move all rows of every head down by `count`: the last `count` positions are forgotten.
  static func moveDown(_ bytes: UnsafeMutableRawPointer, shape: [Int], strides: [Int], by count: Int) {
    guard count > 0, count < shape[2] else { return }
    let (width, rowBytes) = (DType.float16.bytes, strides[2] * DType.float16.bytes)
    for layer in 0..<shape[0] {
      for head in 0..<shape[1] {
        let start = bytes + (layer * strides[0] + head * strides[1]) * width
        memmove(start + count * rowBytes, start, (shape[2] - count - 1) * rowBytes + shape[3] * width)
      }
    }
  }
}
