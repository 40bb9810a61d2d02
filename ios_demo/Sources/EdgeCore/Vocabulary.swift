import Foundation

/// The compact vocabulary: tokenizer.json as arrays that are mapped, not parsed.  FORMAT.md draws the bytes.
public struct Vocabulary: Sendable {
  public enum PieceType: UInt8, Sendable { case normal, byte, added, control }
  enum Splitting: Int { case whole, words, lines }

  static let version = 1
  private static let headerBytes = 40
  private static let damaged = "export the bundle again"

  public let pieces: Int
  let splitting: Splitting
  private let raw: Data
  // Places of the arrays, in bytes.
  private let offsets: Int
  private let types: Int
  private let characters: Int
  private let byteIds: Int
  private let added: Int
  private let first: Int
  private let merges: Int
  private let text: Int
  private let characterCount: Int
  private let addedCount: Int
  private let mergeCount: Int
  private let textBytes: Int

  /// Throws GemmaError unless all sizes, ids and offsets of the file agree.
  public init(_ path: URL) throws {
    do {
      raw = try Data(contentsOf: path, options: .mappedIfSafe)
    } catch {
      throw GemmaError("\(path.path): can not be read: \(error.localizedDescription)", Vocabulary.damaged)
    }
    guard raw.count >= Vocabulary.headerBytes, raw.prefix(8) == Data("GEMVOCB1".utf8) else {
      throw GemmaError("\(path.path) is not a compact vocabulary", Vocabulary.damaged)
    }
    let header = (0..<8).map { [raw] in Vocabulary.word(raw, 8 + 4 * $0) }
    guard header[0] == Vocabulary.version else {
      let hint = header[0] > Vocabulary.version ? "upgrade the app" : Vocabulary.damaged
      throw GemmaError(
        "\(path.path) has the vocabulary version \(header[0]), but this app reads \(Vocabulary.version)", hint)
    }
    (pieces, characterCount, addedCount) = (header[1], header[2], header[3])
    (mergeCount, textBytes) = (header[4], header[5])
    offsets = Vocabulary.headerBytes
    types = offsets + 4 * (pieces + 1)
    characters = types + (pieces + 3) / 4 * 4
    byteIds = characters + 8 * characterCount
    added = byteIds + 4 * 256
    first = added + 4 * addedCount
    merges = first + 4 * (pieces + 1)
    text = merges + 12 * mergeCount
    guard let splitting = Splitting(rawValue: header[6]), raw.count == text + textBytes else {
      throw GemmaError(
        "\(path.path) has \(raw.count) bytes, which is wrong for \(pieces) pieces and \(mergeCount) merges",
        Vocabulary.damaged)
    }
    self.splitting = splitting
    guard isSound() else {
      throw GemmaError("\(path.path): corrupt vocabulary: an id or an offset is out of range", Vocabulary.damaged)
    }
  }

  public func type(_ token: Int) -> PieceType {
    PieceType(rawValue: raw[raw.startIndex + types + token]) ?? .normal
  }

  /// The text of a token, UTF-8.
  public func piece(_ token: Int) -> Data {
    let (begin, end) = (text + word(offsets, token), text + word(offsets, token + 1))
    return raw[raw.startIndex + begin..<raw.startIndex + end]
  }

  /// Ids that are matched before anything else.
  var addedIds: [Int] { (0..<addedCount).map { word(added, $0) } }

  /// Bytes by the id that stands for them.
  var bytesById: [Int: UInt8] {
    Dictionary((0..<256).map { (word(byteIds, $0), UInt8($0)) }) { kept, _ in kept }
  }

  /// The id of a character; where there is none, those of its bytes in UTF-8.
  func symbols(_ character: Unicode.Scalar) -> [Int] {
    let place = lowerBound(0..<characterCount) { word(characters, 2 * $0) < Int(character.value) }
    if place < characterCount, word(characters, 2 * place) == Int(character.value) {
      return [word(characters, 2 * place + 1)]
    }
    return Character(character).utf8.map { word(byteIds, Int($0)) }
  }

  /// Rank and product of two neighbours.
  func merge(_ left: Int, _ right: Int) -> (rank: Int, product: Int)? {
    let (begin, end) = (word(first, left), word(first, left + 1))
    let place = lowerBound(begin..<end) { word(merges, 3 * $0) < right }
    guard place < end, word(merges, 3 * place) == right else { return nil }
    return (word(merges, 3 * place + 1), word(merges, 3 * place + 2))
  }

  /// The first place of a range where something does not hold any more.
  private func lowerBound(_ range: Range<Int>, _ holds: (Int) -> Bool) -> Int {
    var (low, high) = (range.lowerBound, range.upperBound)
    while low < high {
      let middle = (low + high) / 2
      if holds(middle) { low = middle + 1 } else { high = middle }
    }
    return low
  }

  private static func word(_ raw: Data, _ at: Int) -> Int {
    raw.withUnsafeBytes { Int(UInt32(littleEndian: $0.loadUnaligned(fromByteOffset: at, as: UInt32.self))) }
  }

  private func word(_ array: Int, _ index: Int) -> Int { Vocabulary.word(raw, array + 4 * index) }

  private func isSound() -> Bool {
    raw.withUnsafeBytes { bytes in
      func array(_ place: Int, _ count: Int) -> [Int] {
        (0..<count).map {
          Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: place + 4 * $0, as: UInt32.self)))
        }
      }
      let most = max(pieces, 1)
      let (starts, firsts) = (array(offsets, pieces + 1), array(first, pieces + 1))
      let (points, table) = (array(characters, 2 * characterCount), array(merges, 3 * mergeCount))
      let ids = array(byteIds, 256) + array(added, addedCount)
      return ids.allSatisfy { $0 < most } && risesTo(starts, textBytes) && risesTo(firsts, mergeCount)
        && (0..<characterCount).allSatisfy { points[2 * $0 + 1] < most }
        && (1..<max(characterCount, 1)).allSatisfy { points[2 * $0 - 2] < points[2 * $0] }
        && (0..<mergeCount).allSatisfy { table[3 * $0] < most && table[3 * $0 + 2] < most }
        && rightsRise(firsts, table) && (0..<pieces).allSatisfy { bytes[types + $0] <= PieceType.control.rawValue }
        && array(added, addedCount).allSatisfy { bytes[types + $0] >= PieceType.added.rawValue }
        && starts.allSatisfy { $0 == textBytes || bytes[text + $0] & 0xC0 != 0x80 }  // no piece begins in a character
        && String(validating: bytes[text...], as: UTF8.self) != nil
    }
  }

  private func risesTo(_ values: [Int], _ end: Int) -> Bool {
    values[0] == 0 && values[values.count - 1] == end && zip(values, values.dropFirst()).allSatisfy { $0 <= $1 }
  }

  /// Within the merges of a left half the right halves rise, each once.
  private func rightsRise(_ firsts: [Int], _ table: [Int]) -> Bool {
    (0..<pieces).allSatisfy { left in
      (firsts[left]..<firsts[left + 1]).dropFirst().allSatisfy { table[3 * $0 - 3] < table[3 * $0] }
    }
  }
}
