import SwiftUI

@main
struct GemmaEdgeApp: App {
  @State private var store = BundleStore()

  var body: some Scene {
    WindowGroup { RootView(store: store) }
  }
}
