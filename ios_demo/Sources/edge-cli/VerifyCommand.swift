import EdgeCore
import EdgeEngines

/// `edge-cli verify`: every hash, then the golden answers.
struct VerifyCommand {
  static let options: [String: Arguments.Takes] = ["--engine": .value, "--threads": .value]

  let arguments: Arguments

  init(_ arguments: Arguments) { self.arguments = arguments }

  func run() async throws {
    try arguments.count(1, 1)
    let bundle = try arguments.bundle()
    try bundle.checkHashes { name, size in print("\(name): \(size) bytes, hash holds") }
    let goldens = try Goldens(bundle)
    let engine = try await EngineChoice(arguments).opener(bundle)(bundle)
    for golden in goldens.prompts {
      let check = try golden.check(engine, tolerance: goldens.tolerance)
      print("golden of \(golden.prompt.count) tokens: \(check.steps) steps, largest difference \(check.worst)")
      guard check.passes(goldens.tolerance) else {
        throw GemmaError(
          "golden answers differ: by \(check.worst) where \(goldens.tolerance) is allowed, in \(check.tokens) tokens",
          "this engine rounds in another way, or does not work here")
      }
    }
  }
}
