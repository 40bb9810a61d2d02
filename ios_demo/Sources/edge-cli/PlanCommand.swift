import EdgeCore

/// `edge-cli plan`: peak memory for a context, before anything is loaded.
struct PlanCommand {
  static let options: [String: Arguments.Takes] = ["--engine": .value, "--context": .value]

  let arguments: Arguments

  init(_ arguments: Arguments) { self.arguments = arguments }

  func run() throws {
    try arguments.count(1, 1)
    let bundle = try arguments.bundle()
    let context = try arguments.number("--context", Int.self) ?? bundle.manifest.model.context
    let plan = try MemoryPlan(bundle.manifest, target: arguments.text("--engine") ?? "onnx", context: context)
    for (name, bytes) in plan.parts { print("\(name): \(bytes)") }
    print("peak: \(plan.peak) bytes, \(plan.context) tokens")
  }
}
