import Foundation

/// Where a template has a place for system messages: some refuse a later one, and others drop it without a word.
///
/// What it does with them is seen by marks in place of their texts.
struct SystemMessages {
  let render: ([Message]) throws -> String

  /// The messages as given where the template renders every system message, else with all of them in one at the start.
  ///
  /// Throws GemmaError if the template drops the one too, and what `render` throws for it.
  func placed(_ messages: [Message]) throws -> [Message] {
    guard messages.dropFirst().contains(where: { $0.role == .system }) else { return messages }
    // What else the template refuses shows when the system messages are in one.
    if (try? saysAll(messages)) == true { return messages }
    let merged = inOne(messages)
    guard try saysAll(merged) else {
      throw GemmaError("the chat template has no place for a system message", "put it into a message of the user")
    }
    return merged
  }

  private func saysAll(_ messages: [Message]) throws -> Bool {
    let key = UUID().uuidString
    let places = messages.indices.filter { messages[$0].role == .system }
    var marked = messages
    for at in places { marked[at] = Message(role: .system, content: "\(key).\(at).") }
    let words = try render(marked).components(separatedBy: key + ".").dropFirst()
    return Set(words.compactMap { $0.components(separatedBy: ".").first.flatMap(Int.init) }) == Set(places)
  }

  /// All system messages as the first, a paragraph each.
  private func inOne(_ messages: [Message]) -> [Message] {
    let text = messages.filter { $0.role == .system }.map(\.content).joined(separator: "\n\n")
    return [Message(role: .system, content: text)] + messages.filter { $0.role != .system }
  }
}
