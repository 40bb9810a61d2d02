import EdgeCore
import EdgeEngines
import Foundation

/// The engine that a command line asks for.
struct EngineChoice: Sendable {
  typealias Opener = @Sendable (EdgeCore.Bundle) throws -> any EdgeCore.Engine

  private let name: String
  private let threads: Int?
  private let library: String

  init(_ arguments: Arguments) throws {
    name = arguments.text("--engine") ?? "onnx"
    threads = try arguments.number("--threads", Int.self)
    library = ProcessInfo.processInfo.environment["EDGE_ONNXRUNTIME"] ?? EngineChoice.standardLibrary
  }

  #if os(macOS)
    private static let standardLibrary = "libonnxruntime.dylib"
  #else
    private static let standardLibrary = "libonnxruntime.so.1"
  #endif

  /// What loads the bundle's artifact; Core ML compiles it first.
  ///
  /// Throws GemmaError for an engine that this build does not have, and for threads of one that chooses its own.
  func opener(_ bundle: EdgeCore.Bundle) async throws -> Opener {
    if name == "onnx" { return { [library, threads] in try OnnxEngine($0, library: library, threads: threads ?? 1) } }
    guard threads == nil else { throw GemmaError("--threads: engine \(name) chooses its own", "leave it out") }
    #if canImport(CExecuTorch)
      if name == "executorch" { return { try ExecutorchEngine($0) } }
    #endif
    #if canImport(CoreML)
      if name == "coreml" {
        let compiled = try await CompiledModel.of(bundle, caches: .cachesDirectory)
        return { try CoreMLEngine($0, compiled: compiled) }
      }
    #endif
    throw GemmaError("engine '\(name)': not in this build", "use --engine onnx")
  }
}
