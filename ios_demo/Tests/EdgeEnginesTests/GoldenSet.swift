import EdgeCore
import EdgeEngines
import Foundation

/// The golden sets that `tests/mobile/write_golden.py` wrote of an int4 and of a float bundle, and onnxruntime:
/// EDGE_GOLDEN, EDGE_GOLDEN_FLOAT and EDGE_ONNXRUNTIME; EDGE_GOLDEN_COREML is what `write_coreml.py` wrote.
enum GoldenSet {
  static let folder = URL(fileURLWithPath: ProcessInfo.processInfo.environment["EDGE_GOLDEN"] ?? "")
  static let float = URL(fileURLWithPath: ProcessInfo.processInfo.environment["EDGE_GOLDEN_FLOAT"] ?? "")
  static let coreML = URL(fileURLWithPath: ProcessInfo.processInfo.environment["EDGE_GOLDEN_COREML"] ?? "")
  static let library = ProcessInfo.processInfo.environment["EDGE_ONNXRUNTIME"] ?? "libonnxruntime.so.1"

  static func lines<T: Decodable>(_ name: String, _ type: T.Type, of folder: URL = folder) throws -> [T] {
    let raw = try Data(contentsOf: folder.appendingPathComponent(name))
    return try raw.split(separator: UInt8(ascii: "\n")).map { try JSONDecoder().decode(T.self, from: $0) }
  }

  private static let opened = Result { try Bundle(folder.appendingPathComponent("bundle")) }

  static func bundle() throws -> EdgeCore.Bundle { try opened.get() }

  static func session(_ bundle: EdgeCore.Bundle) throws -> Session {
    try Session(bundle) { try OnnxEngine($0, library: library) }
  }
}
