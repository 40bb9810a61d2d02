import Foundation

/// Geometry of a row file.  FORMAT.md draws the bytes.
///
/// bits: 2, 4 or 8 (integers with scales), 16 (bfloat16 values) or 32 (float32 values)
/// scales: of a layer; each covers dim / scales values, rounded up
/// scaleBits: 16 (bfloat16) or 32 (float32, of a checkpoint that is released as integers)
public struct RowFormat: Sendable, Equatable {
  public static let start = 4096  // rows begin on a page
  static let headerBytes = 44
  static let version = 2

  public let rows: Int
  public let layers: Int
  public let dim: Int
  public let bits: Int
  public let scales: Int
  public let scaleBits: Int

  public var layerBytes: Int { dim * bits / 8 }
  public var scaleBytes: Int { scales * scaleBits / 8 }  // of a layer
  public var rowBytes: Int { (layers * (layerBytes + scaleBytes) + 3) / 4 * 4 }
  public var width: Int { scales > 0 ? (dim + scales - 1) / scales : dim }  // values that share a scale

  /// Throws GemmaError unless header and file size agree.
  init(header: [UInt8], path: String, size: Int) throws {
    guard header.count == RowFormat.headerBytes, header.starts(with: Array("GEMROWS1".utf8)) else {
      throw GemmaError("\(path) is not a row file", "export the bundle again")
    }
    let fields = header.withUnsafeBytes { raw in
      (0..<9).map { Int(UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 8 + 4 * $0, as: UInt32.self))) }
    }
    guard fields[0] == RowFormat.version, fields[8] == RowFormat.start else {
      let hint = fields[0] > RowFormat.version ? "upgrade the app" : "export the bundle again"
      throw GemmaError(
        "\(path) has the row file version \(fields[0]), but this app reads \(RowFormat.version)", hint)
    }
    (rows, layers, dim, bits) = (fields[1], fields[3], fields[4], fields[5])
    (scales, scaleBits) = (fields[6], fields[7])
    guard isSound, rowBytes == fields[2], holds(size) else {
      throw GemmaError(
        "\(path) has \(size) bytes, which is wrong for \(rows) rows of \(fields[2]) bytes", "export the bundle again")
    }
  }

  private var isSound: Bool {
    let most = 1 << 24  // so that no product below overflows
    return [2, 4, 8, 16, 32].contains(bits) && [16, 32].contains(scaleBits) && (1...most).contains(layers)
      && (1...most).contains(dim) && scales <= most && dim * bits % 8 == 0 && (scales > 0) == (bits < 16)
  }

  private func holds(_ size: Int) -> Bool {
    let (bytes, overflow) = rows.multipliedReportingOverflow(by: rowBytes)
    return !overflow && bytes <= Int.max - RowFormat.start && RowFormat.start + bytes == size
  }
}

/// An open row file: per-layer or token embeddings that stay on flash.
///
/// The file is mapped, and the kernel is told that rows are read here and there.  It maps up to a megabyte around
/// each row all the same, so pages are let go after every few rows: they stay in the page cache, but not on the
/// process's account.
public final class RowTable {
  static let rowsHeld = 64  // rows that are read before pages are let go

  public let format: RowFormat
  public let multiplier: Float
  public let path: URL
  public private(set) var rowsRead = 0
  private let map: UnsafeMutableRawPointer
  private let size: Int
  private var held = 0

  /// Throws GemmaError if the file can not be mapped, or its header and size do not agree.
  public init(_ path: URL, multiplier: Double = 1) throws {
    self.path = path
    self.multiplier = Float(multiplier)
    let file = open(path.path, O_RDONLY)
    guard file >= 0 else { throw GemmaError("\(path.path): can not be opened", Bundle.fetchAgain) }
    defer { close(file) }
    size = Bundle.size(path) ?? 0
    var header = [UInt8](repeating: 0, count: RowFormat.headerBytes)
    let found = pread(file, &header, header.count, 0)
    format = try RowFormat(header: Array(header.prefix(max(0, found))), path: path.path, size: size)
    guard let mapped = mmap(nil, size, PROT_READ, MAP_PRIVATE, file, 0), mapped != MAP_FAILED else {
      throw GemmaError("\(path.path): \(size) bytes can not be mapped", "close other apps")
    }
    map = mapped
    madvise(map, size, RowTable.random)
  }

  deinit { munmap(map, size) }

  /// Ask the kernel for the rows of a prompt, all at once, before they are needed.
  public func prefetch(_ ids: [Int]) {
    let page = Int(getpagesize())
    for id in Set(ids) where (0..<format.rows).contains(id) {
      let begin = RowFormat.start + id * format.rowBytes
      let first = begin / page * page
      madvise(map + first, begin + format.rowBytes - first, RowTable.willNeed)
    }
  }

  /// Rows of some tokens, (ids, layers, dim) float32, multiplied out.
  ///
  /// Throws GemmaError for an id outside the table.
  public func rows(_ ids: [Int], layers: Range<Int>? = nil) throws -> [Float] {
    let layers = layers ?? 0..<format.layers
    let width = layers.count * format.dim
    try check(ids)
    let values = [Float](unsafeUninitializedCapacity: ids.count * width) { values, count in
      for (index, id) in ids.enumerated() {
        format.decode(row(id), layers, multiplier, values.baseAddress! + index * width)
        letGo()
      }
      count = ids.count * width
    }
    return values
  }

  /// The row of a token, raw, `rowBytes` of them.  Throws GemmaError for an id outside the table.
  public func read(_ id: Int) throws -> [UInt8] {
    try check([id])
    let raw = Array(UnsafeRawBufferPointer(start: row(id), count: format.rowBytes))
    letGo()
    return raw
  }

  /// The row of a token, which has one layer, times a state (dim,), without the multiplier.
  ///
  /// Throws GemmaError for an id outside the table.
  public func product(_ id: Int, _ state: UnsafePointer<Float>) throws -> Float {
    try check([id])
    defer { letGo() }
    return format.product(row(id), state)
  }

  private func row(_ id: Int) -> UnsafeRawPointer {
    UnsafeRawPointer(map + (RowFormat.start + id * format.rowBytes))
  }

  private func check(_ ids: [Int]) throws {
    guard let bad = ids.first(where: { !(0..<format.rows).contains($0) }) else { return }
    throw GemmaError(
      "token id \(bad): \(path.lastPathComponent) has \(format.rows) rows", "use this bundle's tokenizer")
  }

  private func letGo() {
    rowsRead += 1
    held += 1
    guard held >= RowTable.rowsHeld else { return }
    madvise(map, size, RowTable.notNeeded)
    held = 0
  }

  #if canImport(Darwin)
    private static let random = MADV_RANDOM, willNeed = MADV_WILLNEED, notNeeded = MADV_DONTNEED
  #else
    private static let random = Int32(MADV_RANDOM), willNeed = Int32(MADV_WILLNEED), notNeeded = Int32(MADV_DONTNEED)
  #endif
}
