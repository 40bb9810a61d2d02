import EdgeChat
import SwiftUI

/// What one side said; thoughts are folded.
struct TurnView: View {
  let turn: Turn

  var body: some View {
    VStack(alignment: .leading, spacing: 4) {
      Text(turn.role == .user ? "You" : "Model").font(.caption).foregroundStyle(.secondary)
      if !turn.thought.isEmpty {
        DisclosureGroup("Thought") { Text(turn.thought).font(.callout).foregroundStyle(.secondary) }
      }
      Text(turn.text).textSelection(.enabled)
      if let rates = turn.rates { Text(rates).font(.caption).foregroundStyle(.secondary) }
      if turn.end?.stop == .length || turn.end?.stop == .context {
        Text("The answer was cut: no more tokens fit.").font(.caption)
      }
    }
    .accessibilityElement(children: .combine)
  }
}
