/// Byte-pair encoding over a compact vocabulary.
struct BytePairs {
  private static let space: Unicode.Scalar = " "
  private static let mark: Unicode.Scalar = "▁"  // stands for a space
  private static let lineBreak: Unicode.Scalar = "\n"

  let vocabulary: Vocabulary

  /// Ids of a text that holds no added token.
  func encode(_ text: ArraySlice<Unicode.Scalar>) -> [Int] {
    let marked = text.map { $0 == BytePairs.space ? BytePairs.mark : $0 }
    return words(marked).flatMap { merged(marked[$0].flatMap(vocabulary.symbols)) }
  }

  /// Parts of a text between which nothing is merged.
  private func words(_ text: [Unicode.Scalar]) -> [Range<Int>] {
    guard vocabulary.splitting != .whole else { return text.isEmpty ? [] : [0..<text.count] }
    var (found, at): ([Range<Int>], Int) = ([], 0)
    while at < text.count {
      let end = vocabulary.splitting == .words ? wordEnd(text, at) : lineEnd(text, at)
      found.append(at..<end)
      at = end
    }
    return found
  }

  /// A break; a mark and what is neither; or marks.
  private func wordEnd(_ text: [Unicode.Scalar], _ at: Int) -> Int {
    if text[at] == BytePairs.lineBreak { return at + 1 }
    let start = text[at] == BytePairs.mark ? at + 1 : at
    let stop = run(text, start) { $0 != BytePairs.mark && $0 != BytePairs.lineBreak }
    return stop > start ? stop : run(text, at) { $0 == BytePairs.mark }
  }

  /// Breaks, or what is none.
  private func lineEnd(_ text: [Unicode.Scalar], _ at: Int) -> Int {
    let broken = text[at] == BytePairs.lineBreak
    return run(text, at) { ($0 == BytePairs.lineBreak) == broken }
  }

  private func run(_ text: [Unicode.Scalar], _ at: Int, _ wanted: (Unicode.Scalar) -> Bool) -> Int {
    text[at...].firstIndex { !wanted($0) } ?? text.count
  }

  private struct Offer {
    let rank: Int
    let at: Int
    let left: Int
    let right: Int
    let product: Int

    static func isBefore(_ a: Offer, _ b: Offer) -> Bool { (a.rank, a.at) < (b.rank, b.at) }
  }

  /// Always the merge of the lowest rank, of equals the leftmost.
  private func merged(_ symbols: [Int]) -> [Int] {
    var tokens = symbols
    var after = symbols.indices.map { $0 + 1 < symbols.count ? $0 + 1 : -1 }
    var before = symbols.indices.map { $0 - 1 }
    var queue = Heap(Offer.isBefore)
    func offer(_ at: Int) {
      guard at >= 0, after[at] >= 0, let found = vocabulary.merge(tokens[at], tokens[after[at]]) else { return }
      let (left, right) = (tokens[at], tokens[after[at]])
      queue.push(Offer(rank: found.rank, at: at, left: left, right: right, product: found.product))
    }
    for at in symbols.indices { offer(at) }
    while let next = queue.popFirst() {
      let following = after[next.at]
      // One of the two may have been merged since.
      guard following >= 0, tokens[next.at] == next.left, tokens[following] == next.right else { continue }
      (tokens[next.at], tokens[following]) = (next.product, -1)
      after[next.at] = after[following]
      if after[following] >= 0 { before[after[following]] = next.at }
      offer(next.at)
      offer(before[next.at])
    }
    return tokens.filter { $0 >= 0 }
  }
}
