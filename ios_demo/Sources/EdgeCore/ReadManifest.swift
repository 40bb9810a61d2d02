/// The fields of `bundle.json` brought into their types, each with its bounds.
extension Manifest {
  /// Throws GemmaError for a field that is missing, mistyped or out of bounds.
  init(_ fields: Fields) throws {
    guard try fields.string("format") == "gemma-edge" else {
      throw GemmaError("\(fields.path).format: is not gemma-edge", Bundle.fetchAgain)
    }
    version = try fields.ints("version")
    model = try Model(fields.object("model"))
    recipe = try Recipe(fields.object("recipe"))
    provenance = try Provenance(fields.object("provenance"))
    generation = try Generation(fields.object("generation"))
    tables = try fields.map("tables") { try Table(Fields($0, at: $1)) }
    artifacts = try fields.map("artifacts") { try Artifact(Fields($0, at: $1)) }
    files = try fields.map("files") { try File(Fields($0, at: $1)) }
    tokenizer = try fields.string("tokenizer")
    vocabulary = try fields.has("vocabulary") ? fields.string("vocabulary") : ""
    chatTemplate = try fields.has("chat_template") ? fields.string("chat_template") : ""
    specialTokens = try fields.has("special_tokens") ? fields.map("special_tokens", Fields.string) : [:]
    golden = try fields.has("golden") ? fields.string("golden") : ""
    parity = try fields.has("parity") ? fields.string("parity") : ""
    parts = try fields.has("parts") ? fields.words("parts", most: Part.most) { try Part(Fields($0, at: $1)) } : [:]
    try checkParts()
  }
}

extension Model {
  init(_ fields: Fields) throws {
    family = try fields.string("family")
    layers = try fields.int("layers", in: Manifest.length)
    ownKVLayers = try fields.int("own_kv_layers", in: Manifest.length)
    hiddenSize = try fields.int("hidden_size", in: Manifest.length)
    vocabSize = try fields.int("vocab_size", in: Manifest.length)
    perLayerDim = try fields.int("per_layer_dim", in: Manifest.count)
    window = try fields.int("window", in: Manifest.length)
    context = try fields.int("context", in: Manifest.length)
    softcap = try fields.double("softcap")
    rescored = try fields.int("rescored", in: Manifest.count)
    caches = try fields.each("caches") { try Cache(Fields($0, at: $1)) }
    sources = try fields.ints("sources")
    let ropes = try fields.map("rope") { try Rope(Fields($0, at: $1)) }
    rope = Dictionary(uniqueKeysWithValues: ropes.compactMap { name, rope in Kind(rawValue: name).map { ($0, rope) } })
    staticRanges = try fields.has("static_ranges") ? fields.bool("static_ranges") : nil
    try checkLayers(fields.path)
  }

  /// Throws GemmaError unless caches, sources and rope are of layers that there are.
  private func checkLayers(_ path: String) throws {
    let layersKnown = ownKVLayers <= layers && caches.map(\.layer) == Array(0..<ownKVLayers)
    let sourcesKnown = sources.count == layers && sources.allSatisfy { (0..<ownKVLayers).contains($0) }
    guard layersKnown, sourcesKnown, caches.allSatisfy({ rope[$0.kind] != nil }) else {
      throw GemmaError("\(path): caches, sources and rope are not of its \(layers) layers", Bundle.fetchAgain)
    }
    guard Manifest.count.contains(layers * perLayerDim) else {
      throw GemmaError("\(path): \(layers) layers of \(perLayerDim) values a token", Bundle.fetchAgain)
    }
    guard rescored <= vocabSize, softcap >= 0, softcap.isFinite else {
      throw GemmaError("\(path): a head of \(rescored) of \(vocabSize) logits, softcap \(softcap)", Bundle.fetchAgain)
    }
  }
}

extension Cache {
  init(_ fields: Fields) throws {
    layer = try fields.int("layer", in: Manifest.count)
    kind = try fields.named("kind")
    kvHeads = try fields.int("kv_heads", in: Manifest.length)
    headDim = try fields.int("head_dim", in: Manifest.length)
    dtype = try fields.named("dtype")
    guard dtype == .float32 || dtype == .int8, Manifest.length.contains(kvHeads * headDim) else {
      throw GemmaError("\(fields.path): \(kvHeads) heads of \(headDim) \(dtype) values", Bundle.fetchAgain)
    }
  }
}

extension Rope {
  init(_ fields: Fields) throws {
    theta = try fields.double("theta")
    headDim = try fields.int("head_dim", in: Manifest.length)
    rotatedPairs = try fields.int("rotated_pairs", in: Manifest.count)
  }
}

extension Table {
  init(_ fields: Fields) throws {
    file = try fields.string("file")
    multiplier = try fields.double("multiplier")
  }
}

extension File {
  init(_ fields: Fields) throws {
    size = try fields.int("size", in: 0...Int.max)
    sha256 = try fields.string("sha256")
  }
}

extension Generation {
  init(_ fields: Fields) throws {
    bos = try fields.int("bos")
    stop = try fields.ints("stop")
    doSample = try fields.has("do_sample") ? fields.bool("do_sample") : true
    temperature = try fields.has("temperature") ? fields.double("temperature") : 1
    topK = try fields.has("top_k") ? fields.int("top_k") : 0
    topP = try fields.has("top_p") ? fields.double("top_p") : 1
  }
}

extension Artifact {
  init(_ fields: Fields) throws {
    file = try fields.string("file")
    data = try fields.string("data")
    inputs = try fields.each("inputs") { try Tensor(Fields($0, at: $1)) }
    outputs = try fields.each("outputs") { try Tensor(Fields($0, at: $1)) }
    memory = try Memory(fields.has("memory") ? fields.object("memory") : Fields(.object([:]), at: fields.path))
    context = try fields.has("context") ? fields.int("context", in: Manifest.count) : 0
    functions = try fields.has("functions") ? fields.map("functions") { try Fields.int($0, Manifest.length, $1) } : [:]
    states = try fields.has("states") ? fields.each("states") { try Tensor(Fields($0, at: $1)) } : []
    guard states.count <= 1024, states.allSatisfy({ $0.byteCount != nil }) else {
      throw GemmaError("\(fields.path).states: are not of fixed sizes", Bundle.fetchAgain)
    }
  }
}

extension Memory {
  init(_ fields: Fields) throws {
    weights = try fields.has("weights") ? fields.int("weights", in: 0...(1 << 50)) : 0
    loading = try fields.has("loading") ? fields.int("loading", in: 0...(1 << 50)) : 0
    token = try fields.has("token") ? fields.int("token", in: 0...(1 << 30)) : 0
    score = try fields.has("score") ? fields.int("score", in: 0...(1 << 30)) : 0
    row = try fields.has("row") ? fields.int("row", in: Manifest.count) : 0
    rows = try fields.has("rows") ? fields.int("rows", in: Manifest.count) : 0
  }
}

extension Tensor {
  init(_ fields: Fields) throws {
    name = try fields.string("name")
    dtype = try fields.named("dtype")
    shape = try fields.each("shape") { size, path in
      if case .string = size { return nil }
      return try Fields.int(size, Manifest.count, path)
    }
  }
}

extension Recipe {
  init(_ fields: Fields) throws {
    name = try fields.string("name")
    summary = try fields.string("summary")
  }
}

extension Provenance {
  init(_ fields: Fields) throws {
    checkpoint = try fields.string("checkpoint")
    tool = try fields.string("tool")
  }
}

extension Fields {
  /// One of the words of a type.
  func named<T: RawRepresentable>(_ name: String) throws -> T where T.RawValue == String {
    let word = try string(name)
    guard let found = T(rawValue: word) else {
      throw GemmaError("\(path).\(name): \(word) is not known", Bundle.fetchAgain)
    }
    return found
  }
}
