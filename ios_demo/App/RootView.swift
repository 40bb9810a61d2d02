import EdgeChat
import SwiftUI

/// The model, until it is loaded; then the chat.
struct RootView: View {
  let store: BundleStore
  @Environment(\.scenePhase) private var phase

  var body: some View {
    NavigationStack {
      if let chat = store.chat {
        ChatView(chat: chat, store: store)
      } else {
        ModelView(store: store)
      }
    }
    .onChange(of: phase) { _, now in
      if now == .background { store.chat?.stop() }
    }
    .task { await store.followMemoryWarnings() }
  }
}
