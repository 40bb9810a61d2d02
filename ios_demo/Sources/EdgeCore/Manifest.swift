/// `bundle.json`: everything an application needs to know of a bundle, as types.
///
/// FORMAT.md describes each field.  Unknown fields are ignored; a missing or mistyped one is refused with its path.
public struct Manifest: Sendable, Equatable {
  public static let major = 1

  public let version: [Int]
  public let model: Model
  public let provenance: Provenance
  public let recipe: Recipe
  public let generation: Generation
  public let tables: [String: Table]
  public let artifacts: [String: Artifact]
  public let files: [String: File]
  public let tokenizer: String
  public let vocabulary: String
  public let chatTemplate: String
  public let specialTokens: [String: String]  // texts that the template reads by these names
  public let golden: String
  public let parity: String
  public let parts: [String: Part]  // graphs beside the decoder; since 1.1

  /// Whether the ranges of a release were dropped, as exporters did that do not say whether there are some.
  ///
  /// Only a release that is stored as it is has a head of which nothing is computed again.
  public var lostRanges: Bool {
    recipe.name == "as-released" && model.rescored == 0 && model.staticRanges == nil
  }

  static let count = 0...(1 << 24)  // bounds what a hostile bundle can ask for
  static let length = 1...(1 << 24)

  /// Names of files that a field points to.
  public var used: Set<String> {
    var named: Set<String> = [tokenizer, vocabulary, chatTemplate, golden, parity]
    named.formUnion(tables.values.map(\.file))
    named.formUnion(artifacts.values.flatMap { [$0.file, $0.data] })
    named.formUnion(parts.values.flatMap(\.used))
    return named.subtracting([""])
  }
}

public struct File: Sendable, Equatable {
  public let size: Int
  public let sha256: String
}

/// Rotary positions of one kind of layer: angle(position, pair) = position × frequency[pair].
public struct Rope: Sendable, Equatable {
  public let theta: Double
  public let headDim: Int
  public let rotatedPairs: Int  // the other pairs have frequency zero
}

public enum Kind: String, Sendable, CaseIterable {
  case sliding, full
}

/// One layer that owns keys and values: (1, kvHeads, rows, headDim) each.
public struct Cache: Sendable, Equatable {
  public let layer: Int
  public let kind: Kind
  public let kvHeads: Int
  public let headDim: Int
  public let dtype: DType
}

public enum DType: String, Sendable {
  case float32, float16, int8, uint8, int32, int64, bool

  public var bytes: Int {
    switch self {
    case .float32, .int32: 4
    case .float16: 2
    case .int8, .uint8, .bool: 1
    case .int64: 8
    }
  }
}

public struct Model: Sendable, Equatable {
  public let family: String
  public let layers: Int
  public let ownKVLayers: Int
  public let hiddenSize: Int
  public let vocabSize: Int
  public let perLayerDim: Int  // 0: the model has no per-layer embeddings
  public let window: Int
  public let context: Int
  public let softcap: Double  // 0: none
  public let rescored: Int  // best logits that are computed again from the token rows; 0: none
  public let caches: [Cache]
  public let sources: [Int]  // the layer whose keys and values each layer reads
  public let rope: [Kind: Rope]
  public let staticRanges: Bool?  // whether linears round activations as they were trained to; nil: not said
}

/// A row file, and the factor its values are multiplied by.
public struct Table: Sendable, Equatable {
  public let file: String
  public let multiplier: Double
}

public struct Generation: Sendable, Equatable {
  public let bos: Int
  public let stop: [Int]
  public let doSample: Bool
  public let temperature: Double
  public let topK: Int
  public let topP: Double
}

/// A size is a number, or nil where it varies.
public struct Tensor: Sendable, Equatable {
  public let name: String
  public let dtype: DType
  public let shape: [Int?]

  /// Bytes of all values; nil if a size varies, or they are more than 2^40.
  public var byteCount: Int? {
    shape.reduce(dtype.bytes) { sum, size in
      guard let sum, let size, sum <= 1 << 40, sum * size <= 1 << 40 else { return nil }
      return sum * size
    }
  }
}

/// Bytes that the engine of an artifact takes; zeros: not known.
public struct Memory: Sendable, Equatable {
  public let weights: Int
  public let loading: Int
  public let token: Int
  public let score: Int  // for each token of a call and each position that it sees
  public let row: Int  // for each position that a call sees, of which no more than `rows` count
  public let rows: Int
}

/// One lowered graph: what to load, what to feed, what comes out.
public struct Artifact: Sendable, Equatable {
  public let file: String
  public let data: String
  public let inputs: [Tensor]
  public let outputs: [Tensor]
  public let memory: Memory
  public let context: Int  // most positions; 0: the model's
  public let functions: [String: Int]  // tokens of a call, by name, if there are several
  public let states: [Tensor]  // keys and values that the engine owns; none: the host does, as `caches` say
}

public struct Recipe: Sendable, Equatable {
  public let name: String
  public let summary: String
}

public struct Provenance: Sendable, Equatable {
  public let checkpoint: String
  public let tool: String
}
