import EdgeCore
import EdgeEngines
import Foundation
import Testing

@testable import EdgeChat

/// The bundle of the golden set, and onnxruntime: EDGE_GOLDEN and EDGE_ONNXRUNTIME.
private func session() throws -> Session {
  let environment = ProcessInfo.processInfo.environment
  let folder = URL(fileURLWithPath: environment["EDGE_GOLDEN"] ?? "").appendingPathComponent("bundle")
  let library = environment["EDGE_ONNXRUNTIME"] ?? "libonnxruntime.so.1"
  return try Session(Bundle(folder)) { try OnnxEngine($0, library: library) }
}

@MainActor private func ask(_ model: ChatModel, _ text: String) async {
  model.draft = text
  model.send()
  await model.settle()
}

@MainActor @Test func anAnswerComesUnderItsQuestion() async throws {
  let model = ChatModel(try session())
  model.draft = " \n"
  #expect(!model.canSend)
  await ask(model, "What is the capital of Norway?")
  #expect(model.turns.map(\.role) == [.user, .assistant])
  #expect(!model.turns[1].text.isEmpty)
  #expect(model.turns[1].end != nil && model.turns[1].rates != nil)
  #expect(model.draft.isEmpty && !model.isAnswering && model.problem == nil)
  await ask(model, "And of Peru?")
  #expect(model.turns.count == 4)
  #expect(try #require(model.turns[3].end).reused > 0)
  #expect(Set(model.turns.map(\.id)).count == 4)
}

@MainActor @Test func stoppingKeepsWhatWasSaid() async throws {
  let model = ChatModel(try session())
  model.draft = "Tell me of all rivers."
  model.send()
  #expect(model.isAnswering && !model.canSend)
  model.stop()
  await model.settle()
  #expect(!model.isAnswering && model.turns.count == 2)
  await ask(model, "What is the capital of Norway?")
  #expect(!model.turns[3].text.isEmpty)
}

@MainActor @Test func whatCanNotBeAskedComesBackAsTheDraft() async throws {
  let model = ChatModel(try session())
  let long = String(repeating: "river ", count: 20_000)
  await ask(model, long)
  #expect(model.turns.isEmpty && model.draft == long)
  #expect(try #require(model.problem).contains("shorten the prompt"))
  model.draft = ""
  await ask(model, "What is the capital of Norway?")
  #expect(model.problem == nil && model.turns.count == 2)
}

@MainActor @Test func releasedMemoryIsReadAgainAndTheAnswerIsTheSame() async throws {
  let (model, fresh) = (ChatModel(try session()), ChatModel(try session()))
  for one in [model, fresh] {
    await ask(one, "What is the capital of Norway?")
    if one === model { try await one.releaseMemory() }
    #expect(one.turns.count == 2)
  }
  try await fresh.clear()
  #expect(fresh.turns.isEmpty)
  await ask(model, "And of Peru?")
  #expect(try #require(model.turns[3].end).reused == 0)
}

@Test func numbersHaveOneDigitBehindThePoint() {
  #expect([tenths(0), tenths(12.34), tenths(9.96), tenths(0.05)] == ["0.0", "12.3", "10.0", "0.1"])
}

@Test func factsSayWhatFitsAndWhatDoesNot() async throws {
  let bundle = try session().bundle
  let facts = try ModelFacts(bundle, target: "onnx", context: 1024, available: 1 << 40)
  #expect(facts.refusal == nil && facts.context == 1024)
  #expect(facts.rowBytes > 0 && facts.rowBytes < facts.diskBytes)
  #expect(facts.peakBytes > MemoryPlan.base)
  let small = try ModelFacts(bundle, target: "onnx", context: 1024, available: 1_000_000)
  #expect(try #require(small.refusal).contains("1 MB are available"))
  #expect(throws: GemmaError.self) { try ModelFacts(bundle, target: "executorch", context: 1, available: 0) }
}
