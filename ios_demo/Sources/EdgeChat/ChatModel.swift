import EdgeCore
import Observation

/// A conversation as a screen shows it: turns, the draft, and the answer that comes.
@MainActor @Observable
public final class ChatModel {
  public private(set) var turns: [Turn] = []
  public var draft = ""
  public var thinking = false
  /// What went wrong with the last message, for people; the message is in the draft again.
  public private(set) var problem: String?
  public private(set) var isAnswering = false
  private let session: Session
  private var answer: Task<Void, Never>?
  private var count = 0

  public init(_ session: Session) { self.session = session }

  public nonisolated var canThink: Bool { session.canThink }

  public var canSend: Bool { !isAnswering && !draft.allSatisfy(\.isWhitespace) }

  /// Ask what the draft says.
  public func send() {
    guard canSend else { return }
    let asked = draft
    (draft, problem, isAnswering) = ("", nil, true)
    append(.user, asked)
    let messages = turns.map(\.message)
    append(.assistant, "")
    answer = Task { await follow(messages, asked) }
  }

  /// End the answer; what was said of it stays.
  public func stop() { answer?.cancel() }

  /// Wait until the answer has ended.
  public func settle() async { await answer?.value }

  /// Forget the conversation.
  public func clear() async throws {
    stop()
    await settle()
    (turns, problem) = ([], nil)
    try await session.reset()
  }

  /// Give memory back: the system has little left.  The conversation stays, and is read again when it goes on.
  public func releaseMemory() async throws {
    stop()
    await settle()
    try await session.reset()
  }

  private func append(_ role: Message.Role, _ text: String) {
    turns.append(Turn(id: count, role: role, text: text))
    count += 1
  }

  private func follow(_ messages: [Message], _ asked: String) async {
    do {
      for try await event in try session.chat(messages, thinking: thinking && canThink) { take(event) }
    } catch {
      takeBack(asked, error)
    }
    isAnswering = false
  }

  private func take(_ event: Event) {
    let last = turns.count - 1
    switch event {
    case .token: break
    case .text(let more): turns[last].text += more
    case .thought(let more): turns[last].thought += more
    case .end(let end): turns[last].end = end
    }
  }

  private func takeBack(_ asked: String, _ error: any Error) {
    turns.removeLast(2)
    draft = asked
    problem = (error as? GemmaError)?.description ?? "\(error)"
  }
}
