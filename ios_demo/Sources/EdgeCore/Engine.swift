/// What reads tokens and answers with logits: one of the engines.
public protocol Engine: AnyObject {
  var model: Model { get }
  /// Tokens that were read so far.
  var position: Int { get }
  /// Most tokens of a call.
  var chunk: Int { get }
  /// Most positions that this engine can reach.
  var context: Int { get }
  /// Stops the running call, from any thread; a call that does not end early does nothing here.
  var cancel: @Sendable () -> Void { get }

  /// Forget a `cancel` that came when no call was running.
  func resume()
  /// Forget everything read so far.
  func reset() throws
  /// Read up to `chunk` tokens; the logits of the last.
  ///
  /// Throws GemmaError at the context limit or from the engine, and CancellationError after `cancel`.
  func forward(_ ids: [Int]) throws -> Step
  /// What was read so far, to come back to until the engine is reset.
  func save() throws -> Mark
  func restore(_ mark: Mark) throws
  /// Forget what comes after `position`; false, and nothing changed, if that is gone.
  func rewind(to position: Int) -> Bool
  /// Ask for the rows of a prompt, before they are needed.
  func prefetch(_ ids: [Int])
}

/// What a call gives for its last position: logits (vocab) after the softcap, hidden (hidden) after the final norm.
public struct Step {
  public var logits: [Float]
  public let hidden: [Float]

  public init(logits: [Float], hidden: [Float]) {
    self.logits = logits
    self.hidden = hidden
  }
}

/// What `save` returns, for `restore` of the same engine; `kept` is of its own kind.
public struct Mark {
  public let position: Int
  public let kept: Any

  public init(position: Int, kept: Any) {
    self.position = position
    self.kept = kept
  }
}

extension Engine {
  /// Throws GemmaError if `tokens` more are over the context.
  public func checkRoom(_ tokens: Int) throws {
    guard position + tokens > context else { return }
    throw GemmaError(
      "\(position + tokens) tokens are more than the context, \(context)",
      "start a new conversation, or shorten the prompt")
  }
}

/// The row files of a bundle, opened, and what the engine's inputs take from them.
public struct Tables {
  public let tokens: RowTable
  public let perLayer: RowTable?
  private let model: Model

  /// Throws GemmaError unless the row files have the sizes that the manifest gives.
  public init(_ bundle: Bundle) throws {
    let (model, tables) = (bundle.manifest.model, bundle.manifest.tables)
    let opened = try tables.mapValues { try RowTable(bundle.path($0.file), multiplier: $0.multiplier) }
    let wanted = model.perLayerDim > 0 ? ["tokens", "per_layer"] : ["tokens"]
    guard Set(opened.keys) == Set(wanted), let tokens = opened["tokens"] else {
      throw GemmaError("\(bundle.folder.path): the row files are not those of the model", "export the bundle again")
    }
    (self.model, self.tokens, perLayer) = (model, tokens, opened["per_layer"])
    let sizes =
      [(tokens.format.layers, tokens.format.dim)] + (perLayer.map { [($0.format.layers, $0.format.dim)] } ?? [])
    let expected = [(1, model.hiddenSize), (model.layers, model.perLayerDim)].prefix(sizes.count)
    guard zip(sizes, expected).allSatisfy({ $0 == $1 }), opened.values.allSatisfy({ $0.format.rows == model.vocabSize })
    else {
      throw GemmaError(
        "\(bundle.folder.path): the row files do not have the sizes that bundle.json gives", "export the bundle again")
    }
  }

  public func prefetch(_ ids: [Int]) {
    tokens.prefetch(ids)
    perLayer?.prefetch(ids)
  }

  /// (tokens, hidden)
  public func embeddings(_ ids: [Int]) throws -> [Float] { try tokens.rows(ids) }

  /// (tokens, own layers × dim): of the layers that own keys and values
  public func perLayerInputs(_ ids: [Int]) throws -> [Float] {
    try perLayer?.rows(ids, layers: 0..<model.ownKVLayers) ?? []
  }

  /// (kept, other layers × dim): of the layers that read the keys and values of others
  public func perLayerInputsKept(_ ids: [Int]) throws -> [Float] {
    try perLayer?.rows(ids, layers: model.ownKVLayers..<model.layers) ?? []
  }
}
