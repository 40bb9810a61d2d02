// swift-tools-version:6.0
import PackageDescription

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
      dependencies: ["EdgeCore", .target(name: "COnnxruntime", condition: .when(platforms: [.linux, .macOS]))]),
    .target(name: "EdgeChat", dependencies: ["EdgeCore"]),
    .executableTarget(name: "edge-cli", dependencies: ["EdgeCore", "EdgeEngines"]),
    .testTarget(name: "EdgeCoreTests", dependencies: ["EdgeCore", "Jinja"]),
    .testTarget(name: "EdgeEnginesTests", dependencies: ["EdgeCore", "EdgeEngines"]),
    .testTarget(name: "EdgeChatTests", dependencies: ["EdgeChat", "EdgeCore", "EdgeEngines"]),
  ]
)
