import EdgeCore
import EdgeEngines
import Foundation
import Testing

private struct Talk: Decodable {
  let name: String
  let turns: [Turn]
}

private struct Turn: Decodable {
  struct Said: Decodable {
    let role: String
    let content: String
  }

  let prompt: [Int]
  let temperature: Double
  let top_k: Int
  let top_p: Double
  let seed: UInt64?
  let max_new_tokens: Int
  let ids: [Int]
  let stop: String
  let reused: Int
  let new_tokens: Int
  let messages: [Said]?
  let thinking: Bool?

  func sampling() throws -> Sampling { try Sampling(temperature: temperature, topK: top_k, topP: top_p, seed: seed) }
}

private func read(_ events: AsyncThrowingStream<Event, any Error>) async throws -> (ids: [Int], end: End) {
  var (ids, end): ([Int], End?) = ([], nil)
  for try await event in events {
    if case .token(let id, _) = event { ids.append(id) }
    if case .end(let found) = event { end = found }
  }
  return (ids, try #require(end))
}

@Test func sessionsSayWhatPythonSays() async throws {
  let bundle = try Bundle(GoldenSet.float.appendingPathComponent("bundle"))
  let talks = try GoldenSet.lines("sessions.jsonl", Talk.self, of: GoldenSet.float)
  #expect(talks.count > 20)
  for talk in talks {
    let session = try GoldenSet.session(bundle)
    for turn in talk.turns {
      let found = try await read(
        session.generate(turn.prompt, sampling: turn.sampling(), maxNewTokens: turn.max_new_tokens))
      compare(found, turn, talk.name)
    }
  }
}

private func compare(_ found: (ids: [Int], end: End), _ turn: Turn, _ name: String) {
  #expect(found.ids == turn.ids, "\(name)")
  #expect(found.end.stop.rawValue == turn.stop, "\(name)")
  #expect(found.end.reused == turn.reused, "\(name)")
  #expect(found.end.newTokens == turn.new_tokens, "\(name)")
}

@Test func aChatEndsWithAnEndAndIsRenderedAsInPython() async throws {
  let session = try GoldenSet.session(GoldenSet.bundle())
  let talk = try #require(try GoldenSet.lines("sessions.jsonl", Talk.self).first { $0.turns[0].messages != nil })
  let turn = talk.turns[0]
  let messages = try #require(turn.messages).map {
    Message(role: Message.Role(rawValue: $0.role)!, content: $0.content)
  }
  var (text, ended) = ("", false)
  for try await event in try session.chat(messages, sampling: turn.sampling(), maxNewTokens: turn.max_new_tokens) {
    if case .text(let more) = event { text += more }
    if case .end(let end) = event {
      ended = true
      #expect(end.promptTokens == turn.prompt.count)
      #expect(end.newTokens == turn.new_tokens)
    }
  }
  #expect(ended)
  #expect(text == session.tokenizer.decode(turn.ids))
}

@Test func cancellingEndsAnAnswerEarlyAndTheSessionGoesOn() async throws {
  let session = try GoldenSet.session(GoldenSet.bundle())
  let prompt = try session.tokenizer.encode("Name a river.", bos: true)
  var seen = 0
  for try await _ in try session.generate(prompt, sampling: Sampling(temperature: 2, seed: 1), maxNewTokens: 3000) {
    seen += 1
    if seen == 3 { break }
  }
  #expect(seen == 3)
  let found = try await read(session.generate(prompt, sampling: .greedy, maxNewTokens: 4))
  let fresh = try await read(GoldenSet.session(GoldenSet.bundle()).generate(prompt, sampling: .greedy, maxNewTokens: 4))
  #expect(found.ids == fresh.ids)
}

@Test func goldenAnswersAreRepeated() throws {
  let bundle = try GoldenSet.bundle()
  let goldens = try Goldens(bundle)
  let engine = try OnnxEngine(bundle, library: GoldenSet.library)
  for golden in goldens.prompts {
    #expect(try golden.check(engine, tolerance: goldens.tolerance).passes(goldens.tolerance))
  }
}

@Test func whatCanNotBeReadIsRefused() throws {
  let session = try GoldenSet.session(GoldenSet.bundle())
  #expect(throws: GemmaError.self) { try session.generate([]) }
  #expect(throws: GemmaError.self) { try session.generate([1 << 30]) }
  #expect(throws: GemmaError.self) { try session.generate([2], maxNewTokens: 0) }
  #expect(throws: GemmaError.self) { try session.generate(Array(repeating: 2, count: session.context + 1)) }
}
