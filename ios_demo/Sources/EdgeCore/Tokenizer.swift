import Foundation

/// Text to token ids and back, as tokenizer.json does.
public struct Tokenizer: Sendable {
  public let bos: Int
  let vocabulary: Vocabulary
  private let added: AddedTokens
  private let plain: AddedTokens
  let control: AddedTokens
  let mask: ControlMask
  private let bytes: [Int: UInt8]

  /// Throws GemmaError if the bundle has no compact vocabulary, or it can not be read.
  public init(_ bundle: Bundle) throws {
    guard !bundle.manifest.vocabulary.isEmpty else {
      throw GemmaError("\(bundle.folder.path): has no compact vocabulary", "export the bundle again")
    }
    try self.init(Vocabulary(bundle.path(bundle.manifest.vocabulary)), bos: bundle.manifest.generation.bos)
  }

  init(_ vocabulary: Vocabulary, bos: Int) throws {
    (self.vocabulary, self.bos) = (vocabulary, bos)
    let named = vocabulary.addedIds.map {
      (Array(String(decoding: vocabulary.piece($0), as: UTF8.self).unicodeScalars), $0)
    }
    func tokens(_ wanted: (Vocabulary.PieceType) -> Bool) -> AddedTokens {
      AddedTokens(Dictionary(named.filter { wanted(vocabulary.type($0.1)) }) { _, last in last })
    }
    added = tokens { _ in true }
    plain = tokens { $0 == .added }
    control = tokens { $0 == .control }
    mask = try ControlMask(control)
    bytes = vocabulary.bytesById
  }

  /// Token ids; `bos` puts the start token before them, exactly once.
  public func encode(_ text: String, bos: Bool) throws -> [Int] {
    let ids = encode(Array(text.unicodeScalars)[...], added)
    return bos && ids.first != self.bos ? [self.bos] + ids : ids
  }

  /// Ids of what a template rendered of hidden messages: what the mask shows again stays text.
  func encode(rendered text: String) -> [Int] {
    control.cut(Array(text.unicodeScalars)[...]).flatMap { part in
      switch part {
      case .between(let scalars): encode(mask.show(scalars), plain)
      case .token(let id): [id]
      }
    }
  }

  private func encode(_ scalars: ArraySlice<Unicode.Scalar>, _ tokens: AddedTokens) -> [Int] {
    let pairs = BytePairs(vocabulary: vocabulary)
    return tokens.cut(scalars).flatMap { part in
      switch part {
      case .between(let scalars): pairs.encode(scalars)
      case .token(let id): [id]
      }
    }
  }

  /// The id of an added token; nil if there is none of that text.
  public func id(of piece: String) -> Int? { added.id(of: piece) }

  /// The text of a token as the vocabulary has it.
  public func piece(_ token: Int) -> String { String(decoding: vocabulary.piece(token), as: UTF8.self) }

  /// Text of ids, without control tokens.
  public func decode(_ ids: [Int]) -> String {
    var stream = TextStream(self)
    return ids.reduce(into: "") { $0 += stream.push($1) } + stream.rest()
  }

  /// What a token adds to a text.
  enum Part {
    case nothing
    case byte(UInt8)
    case text(String)
  }

  func part(_ token: Int) -> Part {
    guard (0..<vocabulary.pieces).contains(token), vocabulary.type(token) != .control else { return .nothing }
    if vocabulary.type(token) == .byte, let byte = bytes[token] { return .byte(byte) }
    return .text(piece(token).replacingOccurrences(of: "▁", with: " "))
  }
}

/// Text as it grows, never half a character.
public struct TextStream: Sendable {
  private let tokenizer: Tokenizer
  private var held = ""
  private var bytes: [UInt8] = []

  public init(_ tokenizer: Tokenizer) { self.tokenizer = tokenizer }

  /// What a token adds; "" while a character is incomplete.
  public mutating func push(_ token: Int) -> String {
    switch tokenizer.part(token) {
    case .nothing: return ""
    case .byte(let byte):
      bytes.append(byte)
      guard let whole = String(validating: bytes, as: UTF8.self) else { return "" }
      held += whole
      bytes = []
    case .text(let text):
      held += replaced() + text
    }
    guard held.unicodeScalars.last != "\u{FFFD}" else { return "" }
    defer { held = "" }
    return held
  }

  /// What is left at the end of a text.
  mutating func rest() -> String {
    defer { held = "" }
    return held + replaced()
  }

  /// Bytes that make no character are shown as such.
  private mutating func replaced() -> String {
    defer { bytes = [] }
    return String(repeating: "\u{FFFD}", count: bytes.count)
  }
}
