import Foundation

/// Arrays of keys or values, (1, heads, rows, dim).
extension HostArray {
  convenience init(_ cache: Cache, rows: Int) throws {
    try self.init(cache.dtype, [1, cache.kvHeads, rows, cache.headDim])
  }

  public var rows: Int { shape[2] }

  /// Copy rows of every head; source and target may overlap.
  func copy(from source: HostArray, rows: Range<Int>, to first: Int) {
    let rowBytes = shape[3] * dtype.bytes
    for head in 0..<shape[1] {
      let begin = source.bytes + (head * source.rows + rows.lowerBound) * rowBytes
      memmove(bytes + (head * self.rows + first) * rowBytes, begin, rows.count * rowBytes)
    }
  }
}

/// Keys and values of one layer that owns some.
///
/// A full layer keeps all positions, in arrays that grow in steps; a sliding layer the last ones, oldest first, and
/// moves its window to the front when the rows run out.
public final class KeyValues {
  public static let step = 1024  // rows by which a full layer's arrays and the rotary tables grow
  public static let slack = 64  // rows a window may run over before it is moved to the front

  public let cache: Cache
  public internal(set) var length = 0
  public private(set) var key: HostArray
  public private(set) var value: HostArray
  private let window: Int

  public init(_ cache: Cache, window: Int, chunk: Int) throws {
    (self.cache, self.window) = (cache, window)
    let rows = cache.kind == .sliding ? window + max(chunk, KeyValues.slack) : 0
    (key, value) = (try HostArray(cache, rows: rows), try HostArray(cache, rows: rows))
  }

  /// Room for `tokens` more.
  public func makeRoom(_ tokens: Int) throws {
    switch cache.kind {
    case .sliding where length + tokens > window + max(tokens, KeyValues.slack): moveWindow()
    case .full where length + tokens > key.rows: try grow(length + tokens)
    default: break
    }
  }

  private func moveWindow() {
    let kept = window - 1
    for array in [key, value] { array.copy(from: array, rows: length - kept..<length, to: 0) }
    length = kept
  }

  private func grow(_ needed: Int) throws {
    let rows = (needed + KeyValues.step - 1) / KeyValues.step * KeyValues.step
    key = try regrown(key, rows)
    value = try regrown(value, rows)  // the old keys are gone before there are new values
  }

  private func regrown(_ array: HostArray, _ rows: Int) throws -> HostArray {
    let grown = try HostArray(cache, rows: rows)
    grown.copy(from: array, rows: 0..<length, to: 0)
    return grown
  }

  /// Whether rows are there that a query at `position` sees, coming back from position `at`.
  func canRewind(to position: Int, from at: Int) -> Bool {
    cache.kind == .full || at - length <= max(0, position - (window - 1))
  }

  func rewind(to position: Int, from at: Int) {
    length = cache.kind == .full ? position : position - (at - length)
  }

  /// Rows in use, and copies of them where they may be overwritten.
  func save() throws -> Saved {
    guard cache.kind == .sliding else { return Saved(length: length, key: nil, value: nil) }
    let kept = (try HostArray(cache, rows: length), try HostArray(cache, rows: length))
    kept.0.copy(from: key, rows: 0..<length, to: 0)
    kept.1.copy(from: value, rows: 0..<length, to: 0)
    return Saved(length: length, key: kept.0, value: kept.1)
  }

  func restore(_ saved: Saved) {
    length = saved.length
    if let kept = saved.key { key.copy(from: kept, rows: 0..<length, to: 0) }
    if let kept = saved.value { value.copy(from: kept, rows: 0..<length, to: 0) }
  }

  struct Saved {
    let length: Int
    let key: HostArray?
    let value: HostArray?
  }
}

/// The caches of all layers of an engine that keeps them itself.
public final class AllKeyValues {
  public let layers: [KeyValues]

  public init(_ model: Model, chunk: Int) throws {
    layers = try model.caches.map { try KeyValues($0, window: model.window, chunk: chunk) }
  }

  /// Back to an earlier position; false, and nothing changed, if a window has moved past it.
  public func rewind(to position: Int, from at: Int) -> Bool {
    guard layers.allSatisfy({ $0.canRewind(to: position, from: at) }) else { return false }
    for layer in layers { layer.rewind(to: position, from: at) }
    return true
  }

  public func makeRoom(_ tokens: Int) throws {
    for layer in layers { try layer.makeRoom(tokens) }
  }

  public func advance(_ tokens: Int) {
    for layer in layers { layer.length += tokens }
  }

  public func save() throws -> SavedKeyValues { SavedKeyValues(layers: try layers.map { try $0.save() }) }

  public func restore(_ saved: SavedKeyValues) {
    for (layer, kept) in zip(layers, saved.layers) { layer.restore(kept) }
  }
}

/// Caches at one time.
public struct SavedKeyValues {
  let layers: [KeyValues.Saved]
}
