import EdgeChat
import EdgeCore
import SwiftUI

/// The conversation, and the field for the next message.
struct ChatView: View {
  @Bindable var chat: ChatModel
  let store: BundleStore

  var body: some View {
    ScrollViewReader { reader in
      ScrollView {
        LazyVStack(alignment: .leading, spacing: 12) {
          ForEach(chat.turns) { turn in TurnView(turn: turn).id(turn.id) }
        }
        .padding()
      }
      .onChange(of: chat.turns.last?.text) { _, _ in
        if let last = chat.turns.last { reader.scrollTo(last.id, anchor: .bottom) }
      }
    }
    .safeAreaInset(edge: .bottom) { composer }
    .navigationTitle(store.bundle?.manifest.provenance.checkpoint ?? "Chat")
    .toolbar {
      ToolbarItem(placement: .topBarLeading) { Button("Model") { store.unload() } }
      ToolbarItem(placement: .topBarTrailing) { NewChatButton(chat: chat) }
    }
  }

  private var composer: some View {
    VStack(alignment: .leading, spacing: 6) {
      if let problem = chat.problem { Text(problem).font(.footnote).foregroundStyle(.red) }
      if chat.canThink { Toggle("Think first", isOn: $chat.thinking).font(.footnote) }
      HStack {
        TextField("Message", text: $chat.draft, axis: .vertical).lineLimit(1...5).onSubmit { chat.send() }
        if chat.isAnswering {
          Button("Stop", systemImage: "stop.circle.fill") { chat.stop() }.labelStyle(.iconOnly)
        } else {
          Button("Send", systemImage: "arrow.up.circle.fill") { chat.send() }.labelStyle(.iconOnly)
            .disabled(!chat.canSend)
        }
      }
      Text("\(ResidentMemory.now / 1_000_000) MB in use").font(.caption).foregroundStyle(.secondary)
    }
    .padding()
    .background(.bar)
  }
}

/// Forgets the conversation.
struct NewChatButton: View {
  let chat: ChatModel
  @State private var problem: String?

  var body: some View {
    Button("New chat", systemImage: "square.and.pencil") {
      Task {
        do { try await chat.clear() } catch { problem = "\(error)" }
      }
    }
    .disabled(chat.turns.isEmpty)
    .alert("The chat was not cleared", isPresented: .constant(problem != nil)) {
      Button("OK") { problem = nil }
    } message: {
      Text(problem ?? "")
    }
  }
}
