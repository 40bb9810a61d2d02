import Foundation

#if canImport(CryptoKit)
  import CryptoKit
#endif

/// SHA-256 of bytes that come in pieces.
public struct SHA256 {
  #if canImport(CryptoKit)
    private var hasher = CryptoKit.SHA256()

    public init() {}

    public mutating func update(_ bytes: UnsafeRawBufferPointer) { hasher.update(bufferPointer: bytes) }

    /// 32 bytes.
    public mutating func finish() -> [UInt8] { Array(hasher.finalize()) }
  #else
    private var hasher = PortableSHA256()

    public init() {}

    public mutating func update(_ bytes: UnsafeRawBufferPointer) { hasher.update(bytes) }

    /// 32 bytes.
    public mutating func finish() -> [UInt8] { hasher.finish() }
  #endif

  /// 64 lower-case hex digits.
  public static func hex(_ data: Data) -> String {
    var hash = SHA256()
    data.withUnsafeBytes { hash.update($0) }
    return hex(hash.finish())
  }

  /// Of a file, read a megabyte at a time.  Throws GemmaError if it can not be read.
  public static func hex(file: URL) throws -> String {
    var hash = SHA256()
    let reader = try FileReader(file)
    while let piece = try reader.next(1 << 20) { piece.withUnsafeBytes { hash.update($0) } }
    return hex(hash.finish())
  }

  public static func hex(_ digest: [UInt8]) -> String {
    let digits = Array("0123456789abcdef".utf8)
    return String(decoding: digest.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
  }
}

/// FIPS 180-4, for platforms without CryptoKit.
struct PortableSHA256 {
  private var state: [UInt32] = [
    0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
  ]
  private var block: [UInt8] = []  // shorter than 64 bytes
  private var length: UInt64 = 0

  mutating func update(_ bytes: UnsafeRawBufferPointer) {
    length += UInt64(bytes.count)
    var at = 0
    if !block.isEmpty {
      at = min(64 - block.count, bytes.count)
      block.append(contentsOf: bytes[0..<at])
      guard block.count == 64 else { return }
      block.withUnsafeBytes { Self.compress(&state, $0.baseAddress!) }
      block.removeAll(keepingCapacity: true)
    }
    while at + 64 <= bytes.count {
      Self.compress(&state, bytes.baseAddress! + at)
      at += 64
    }
    block.append(contentsOf: bytes[at...])
  }

  mutating func finish() -> [UInt8] {
    let bits = (length &* 8).bigEndian
    var tail: [UInt8] = [0x80] + [UInt8](repeating: 0, count: (119 - block.count % 64) % 64)
    withUnsafeBytes(of: bits) { tail.append(contentsOf: $0) }
    tail.withUnsafeBytes { update($0) }
    return state.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (24 - 8 * UInt32($0))) } }
  }

  private static func compress(_ state: inout [UInt32], _ bytes: UnsafeRawPointer) {
    withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 64) { w in
      for t in 0..<16 {
        w[t] = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 4 * t, as: UInt32.self))
      }
      for t in 16..<64 {
        let a = w[t - 15], b = w[t - 2]
        let low = turned(a, 7) ^ turned(a, 18) ^ (a >> 3)
        let high = turned(b, 17) ^ turned(b, 19) ^ (b >> 10)
        w[t] = w[t - 16] &+ low &+ w[t - 7] &+ high
      }
      rounds(&state, w)
    }
  }

  private static func rounds(_ state: inout [UInt32], _ w: UnsafeMutableBufferPointer<UInt32>) {
    var (a, b, c, d) = (state[0], state[1], state[2], state[3])
    var (e, f, g, h) = (state[4], state[5], state[6], state[7])
    roundConstants.withUnsafeBufferPointer { k in
      for t in 0..<64 {
        let first = h &+ (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) &+ ((e & f) ^ (~e & g)) &+ k[t] &+ w[t]
        let second = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) &+ ((a & b) ^ (a & c) ^ (b & c))
        (h, g, f, e, d, c, b, a) = (g, f, e, d &+ first, c, b, a, first &+ second)
      }
    }
    for (index, value) in [a, b, c, d, e, f, g, h].enumerated() { state[index] &+= value }
  }

  @inline(__always)
  private static func turned(_ x: UInt32, _ by: UInt32) -> UInt32 { (x >> by) | (x << (32 &- by)) }

  /// The fractional parts of the cube roots of the first 64 primes.
  private static let roundConstants: [UInt32] = {
    let primes = (2...311).filter { n in !(2..<n).contains { n.isMultiple(of: $0) } }
    return primes.map { fractionOfCubeRoot(UInt64($0)) }
  }()

  /// 32 bits behind the point: the largest x whose cube is at most n × 2^96, without its whole part.
  private static func fractionOfCubeRoot(_ n: UInt64) -> UInt32 {
    var low: UInt64 = 0, high: UInt64 = 7 << 32
    while low < high {
      let middle = (low + high + 1) / 2
      if cubeIsAtMost(middle, n) { low = middle } else { high = middle - 1 }
    }
    return UInt32(truncatingIfNeeded: low)
  }

  /// x³ ≤ n × 2^96, for x below 2^35, in 128 bits.
  private static func cubeIsAtMost(_ x: UInt64, _ n: UInt64) -> Bool {
    let square = x.multipliedFullWidth(by: x)
    let low = square.low.multipliedFullWidth(by: x)
    let high = square.high * x + low.high
    return (high, low.low) <= (n << 32, 0)
  }
}
