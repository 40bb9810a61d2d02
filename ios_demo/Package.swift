// swift-tools-version:6.0
import PackageDescription

/// The folder of the executorch package of Python, whose libraries run a program on Linux: for tests.
let executorch = Context.environment["EDGE_EXECUTORCH"]

let package = Package(
  name: "GemmaEdge",
  platforms: [.iOS(.v18), .macOS(.v15)],
  products: [
    .library(name: "EdgeCore", targets: ["EdgeCore"]),
    .library(name: "EdgeEngines", targets: ["EdgeEngines"]),
    .library(name: "EdgeChat", targets: ["EdgeChat"]),
  ],
  targets: [
    .target(name: "Jinja"),
    .target(name: "EdgeCore", dependencies: ["Jinja"]),
    .target(name: "COnnxruntime"),
    .target(
      name: "EdgeEngines",
      dependencies: ["EdgeCore", .target(name: "COnnxruntime", condition: .when(platforms: [.linux, .macOS]))]
        + (executorch == nil ? [] : ["CExecuTorch"])),
    .target(name: "EdgeChat", dependencies: ["EdgeCore"]),
    .executableTarget(name: "edge-cli", dependencies: ["EdgeCore", "EdgeEngines"]),
    .testTarget(name: "EdgeCoreTests", dependencies: ["EdgeCore", "Jinja"]),
    .testTarget(name: "EdgeEnginesTests", dependencies: ["EdgeCore", "EdgeEngines"]),
    .testTarget(name: "EdgeChatTests", dependencies: ["EdgeChat", "EdgeCore", "EdgeEngines"]),
  ] + (executorch.map { [shim($0)] } ?? []),
  cxxLanguageStandard: .cxx17
)

/// The C++ between Swift and ExecuTorch's libraries in `folder`.
func shim(_ folder: String) -> Target {
  let libraries = ["", "_kernels_optimized", "_kernels_quantized", "_backend_xnnpack", "_threadpool"]
  let headers = ["include", "include/executorch/runtime/core/portable_type/c10"].map { "-I\(folder)/\($0)" }
  let place = ["-L\(folder)/lib", "-Xlinker", "-rpath", "-Xlinker", "\(folder)/lib", "-Xlinker", "--no-as-needed"]
  return .target(
    name: "CExecuTorch",
    cxxSettings: [.unsafeFlags(headers + ["-DC10_USING_CUSTOM_GENERATED_MACROS", "-w"])],
    linkerSettings: [.unsafeFlags(place)] + libraries.map { .linkedLibrary("executorch\($0)") })
}
