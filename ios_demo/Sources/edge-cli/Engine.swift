import EdgeCore
import EdgeEngines
import Foundation

/// The engine that a command line asks for.
struct Engine: Sendable {
  private let name: String
  private let threads: Int
  private let library: String

  /// Throws GemmaError for an engine that this build does not have.
  init(_ arguments: Arguments) throws {
    name = arguments.text("--engine") ?? "onnx"
    threads = try arguments.number("--threads", Int.self) ?? 1
    library = ProcessInfo.processInfo.environment["EDGE_ONNXRUNTIME"] ?? Engine.standardLibrary
    guard name == "onnx" else {
      throw GemmaError("engine '\(name)': not in this build", "use --engine onnx")
    }
  }

  #if os(macOS)
    private static let standardLibrary = "libonnxruntime.dylib"
  #else
    private static let standardLibrary = "libonnxruntime.so.1"
  #endif

  var open: @Sendable (EdgeCore.Bundle) throws -> any EdgeCore.Decoder {
    { [library, threads] in try OnnxDecoder($0, library: library, threads: threads) }
  }
}
