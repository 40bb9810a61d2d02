import Foundation

@testable import EdgeCore

/// The golden set that `tests/mobile/write_golden.py` wrote: its folder is EDGE_GOLDEN.
enum GoldenSet {
  static let folder = URL(fileURLWithPath: ProcessInfo.processInfo.environment["EDGE_GOLDEN"] ?? "")

  /// The lines of a file.  A test without them fails: it would prove nothing.
  static func lines<T: Decodable>(_ name: String, _ type: T.Type) throws -> [T] {
    let raw = try Data(contentsOf: folder.appendingPathComponent(name))
    return try raw.split(separator: UInt8(ascii: "\n")).map { try JSONDecoder().decode(T.self, from: $0) }
  }

  private static let opened = Result { try Bundle(folder.appendingPathComponent("bundle")) }

  static func bundle() throws -> EdgeCore.Bundle { try opened.get() }

  static func floats(_ base64: String) -> [Float] {
    let raw = Data(base64Encoded: base64) ?? Data()
    return raw.withUnsafeBytes { bytes in
      (0..<raw.count / 4).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
    }
  }
}
