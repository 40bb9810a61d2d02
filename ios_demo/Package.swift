// swift-tools-version:6.0
import PackageDescription

/// The folder of the executorch package of Python, whose libraries run a program on Linux; or `swiftpm`, for
/// ExecuTorch's own package on Apple's systems.  Without it there is no ExecuTorch engine.
let executorch = Context.environment["EDGE_EXECUTORCH"].flatMap { $0.isEmpty ? nil : $0 }
let outside = executorch == "swiftpm"

let package = Package(
  name: "GemmaEdge",
  platforms: [.iOS(.v18), .macOS(.v15)],
  products: [
    .library(name: "EdgeCore", targets: ["EdgeCore"]),
    .library(name: "EdgeEngines", targets: ["EdgeEngines"]),
    .library(name: "EdgeChat", targets: ["EdgeChat"]),
  ],
  dependencies: outside ? [.package(url: "https://github.com/pytorch/executorch", branch: "swiftpm-1.5.1")] : [],
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
  ] + (outside ? [shim()] : executorch.map { [shim($0)] } ?? []),
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

/// The same over ExecuTorch's package: who links the app adds `-all_load`, for the backend registers itself.
func shim() -> Target {
  let products = ["executorch", "backend_xnnpack", "kernels_optimized", "kernels_quantized"]
  return .target(
    name: "CExecuTorch", dependencies: products.map { .product(name: $0, package: "executorch") },
    cxxSettings: [.define("C10_USING_CUSTOM_GENERATED_MACROS")])
}
