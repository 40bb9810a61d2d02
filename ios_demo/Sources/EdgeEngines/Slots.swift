/// Where a token's keys and values go in caches of a fixed number of rows, and which rows a token sees.
///
/// A position goes to the row of its number, modulo the rows: a full layer has a row for every position, a sliding
/// layer a ring that is longer than its window by the tokens of the longest call.
struct Slots {
  static let unseen: Float = -1e9  // far below any score

  let window: Int  // 0 sees all
  var held: [Int]  // the position whose keys and values a row has, or -1

  init(rows: Int, window: Int) {
    self.window = window
    held = [Int](repeating: -1, count: rows)
  }

  /// Rows for positions; what was there is forgotten.
  mutating func take(_ positions: [Int]) -> [Int] {
    let rows = positions.map { $0 % held.count }
    for (row, position) in zip(rows, positions) { held[row] = position }
    return rows
  }

  /// (positions, rows): 0 where a query at a position sees a row.
  func mask(_ positions: [Int]) -> [Float] {
    positions.flatMap { position in
      held.map { kept in
        let distance = position - kept
        return kept >= 0 && distance >= 0 && (window == 0 || distance < window) ? 0 : Slots.unseen
      }
    }
  }

  /// Forget what is at a position, and after it.
  mutating func rewind(to position: Int) {
    for row in held.indices where held[row] >= position { held[row] = -1 }
  }

  /// Whether all are held that a query at `position` sees before it.
  func reaches(_ position: Int) -> Bool {
    let first = window > 0 ? max(0, position - window + 1) : 0
    return position - first <= held.count && (first..<max(first, position)).allSatisfy { held[$0 % held.count] == $0 }
  }
}
