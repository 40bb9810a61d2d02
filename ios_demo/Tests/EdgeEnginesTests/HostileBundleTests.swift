import EdgeCore
import EdgeEngines
import Foundation
import Testing

private struct Case: Decodable {
  let name: String
  let folder: String
  let stage: String
  let words: [String]
}

/// Opens, loads, chats and verifies, as far as a stage says.
private func use(_ folder: URL, until stage: String) async throws {
  let bundle = try Bundle(folder)
  if stage == "verify" {
    try bundle.checkHashes()
    let goldens = try Goldens(bundle)
    let engine = try OnnxEngine(bundle, library: GoldenSet.library)
    for golden in goldens.prompts
    where !(try golden.check(engine, tolerance: goldens.tolerance).passes(goldens.tolerance)) {
      throw GemmaError("golden answers differ")
    }
    return
  }
  if stage == "open" { return }
  let session = try GoldenSet.session(bundle)
  let answer = try session.chat([Message(role: .user, content: "hello")], sampling: .greedy, maxNewTokens: 1)
  for try await _ in answer {}
}

@Test func hostileBundlesAreRefusedInOneSentence() async throws {
  let cases = try GoldenSet.lines("hostile.jsonl", Case.self)
  #expect(cases.count > 50)
  for one in cases {
    let folder = GoldenSet.folder.appendingPathComponent(one.folder)
    await #expect(throws: GemmaError.self, "\(one.name)") { try await use(folder, until: one.stage) }
  }
}
