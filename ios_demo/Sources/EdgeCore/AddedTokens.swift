/// Tokens that are matched before anything is merged, by text; at each place of a text the longest.
struct AddedTokens: Sendable {
  private let ids: [[Unicode.Scalar]: Int]
  private let lengths: [Unicode.Scalar: [Int]]  // of the tokens that begin so, the longest first

  private let sorted: [[Unicode.Scalar]]
  private let longest: Int

  init(_ ids: [[Unicode.Scalar]: Int]) {
    self.ids = ids.filter { !$0.key.isEmpty }
    lengths = Dictionary(grouping: self.ids.keys) { $0[0] }.mapValues { Set($0.map(\.count)).sorted(by: >) }
    sorted = self.ids.keys.sorted { $0.lexicographicallyPrecedes($1) }
    longest = sorted.map(\.count).max() ?? 0
  }

  /// What tokens begin with, in order.
  var firsts: [Unicode.Scalar] { lengths.keys.sorted() }

  func id(of piece: String) -> Int? { ids[Array(piece.unicodeScalars)] }

  /// The length of the token at a place, and its id.
  func token(_ scalars: ArraySlice<Unicode.Scalar>, at: Int) -> (length: Int, id: Int)? {
    for length in lengths[scalars[at]] ?? [] where at + length <= scalars.endIndex {
      if let id = ids[Array(scalars[at..<at + length])] { return (length, id) }
    }
    return nil
  }

  /// Whether a text, from a place to its end, is how a token begins that goes on after it.
  func goesOn(_ scalars: ArraySlice<Unicode.Scalar>, at: Int) -> Bool {
    guard at < scalars.endIndex, scalars.endIndex - at < longest, lengths[scalars[at]] != nil else { return false }
    let begun = scalars[at...]
    var (low, high) = (0, sorted.count)  // the first token after it
    while low < high {
      let middle = (low + high) / 2
      if begun.lexicographicallyPrecedes(sorted[middle]) { high = middle } else { low = middle + 1 }
    }
    return low < sorted.count && sorted[low].starts(with: begun)
  }

  enum Part {
    case between(ArraySlice<Unicode.Scalar>)
    case token(Int)
  }

  /// The tokens of a text, and what lies between them, in their order.
  func cut(_ scalars: ArraySlice<Unicode.Scalar>) -> [Part] {
    var (parts, start, at): ([Part], Int, Int) = ([], scalars.startIndex, scalars.startIndex)
    while at < scalars.endIndex {
      guard let (length, id) = token(scalars, at: at) else {
        at += 1
        continue
      }
      parts += [.between(scalars[start..<at]), .token(id)]
      at += length
      start = at
    }
    return parts + [.between(scalars[start...])]
  }

  /// The tokens of a text, one after another.
  func within(_ text: String) -> [Int] {
    cut(Array(text.unicodeScalars)[...]).compactMap { if case .token(let id) = $0 { id } else { nil } }
  }
}
