import Foundation

/// Text to token ids and back, as tokenizer.json does.
public struct Tokenizer: Sendable {
  public let bos: Int
  let vocabulary: Vocabulary
  private let added: [[Unicode.Scalar]: Int]
  private let lengths: [Unicode.Scalar: [Int]]  // of the added tokens that begin so, the longest first
  private let bytes: [Int: UInt8]

  /// Throws GemmaError if the bundle has no compact vocabulary, or it can not be read.
  public init(_ bundle: Bundle) throws {
    guard !bundle.manifest.vocabulary.isEmpty else {
      throw GemmaError("\(bundle.folder.path): has no compact vocabulary", "export the bundle again")
    }
    try self.init(Vocabulary(bundle.path(bundle.manifest.vocabulary)), bos: bundle.manifest.generation.bos)
  }

  init(_ vocabulary: Vocabulary, bos: Int) {
    (self.vocabulary, self.bos) = (vocabulary, bos)
    let named = vocabulary.addedIds.map {
      (Array(String(decoding: vocabulary.piece($0), as: UTF8.self).unicodeScalars), $0)
    }
    added = Dictionary(named.filter { !$0.0.isEmpty }) { _, last in last }
    lengths = Dictionary(grouping: added.keys) { $0[0] }.mapValues { Set($0.map(\.count)).sorted(by: >) }
    bytes = vocabulary.bytesById
  }

  /// Token ids; `bos` puts the start token before them, exactly once.
  public func encode(_ text: String, bos: Bool) throws -> [Int] {
    let scalars = Array(text.unicodeScalars)
    let pairs = BytePairs(vocabulary: vocabulary)
    var (ids, start, at): ([Int], Int, Int) = ([], 0, 0)
    while at < scalars.count {
      guard let (length, token) = addedToken(scalars, at) else {
        at += 1
        continue
      }
      ids += pairs.encode(scalars[start..<at])
      ids.append(token)
      at += length
      start = at
    }
    ids += pairs.encode(scalars[start...])
    return bos && ids.first != self.bos ? [self.bos] + ids : ids
  }

  /// The longest added token at a place.
  private func addedToken(_ scalars: [Unicode.Scalar], _ at: Int) -> (Int, Int)? {
    for length in lengths[scalars[at]] ?? [] where at + length <= scalars.count {
      if let token = added[Array(scalars[at..<at + length])] { return (length, token) }
    }
    return nil
  }

  /// The id of an added token; nil if there is none of that text.
  public func id(of piece: String) -> Int? { added[Array(piece.unicodeScalars)] }

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
