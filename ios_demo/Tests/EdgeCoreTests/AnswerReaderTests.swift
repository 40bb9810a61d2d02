import Testing

@testable import EdgeCore

private struct Answer: Decodable {
  let prompt: [Int]
  let ids: [Int]
  let events: [[[String]]]
  let thought_tokens: Int
}

@Test func answersAreToldApartAsPythonDoes() throws {
  let tokenizer = try Tokenizer(GoldenSet.bundle())
  for answer in try GoldenSet.lines("events.jsonl", Answer.self) {
    var reader = AnswerReader(tokenizer, ControlTokens(tokenizer), prompt: answer.prompt)
    let said = answer.ids.map { reader.push($0) } + [reader.finish()]
    #expect(said == answer.events.map { $0.map { $0[0] == "text" ? .text($0[1]) : .thought($0[1]) } })
    #expect(reader.thoughtTokens == answer.thought_tokens)
  }
}
