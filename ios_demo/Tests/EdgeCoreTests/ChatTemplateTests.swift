import Foundation
import Testing

@testable import EdgeCore

private struct Chat: Decodable {
  struct Said: Decodable {
    let role: String
    let content: String
    let reasoning: String?

    func message() throws -> Message {
      try Message(role: #require(Message.Role(rawValue: role)), content: content, thought: reasoning ?? "")
    }
  }

  let name: String
  let vocabulary: String
  let template: String
  let special_tokens: [String: String]
  let messages: [Said]
  let thinking: Bool
  let trust: Bool
  let ids: [Int]
}

private func tokenizer(_ file: String) throws -> Tokenizer {
  try Tokenizer(Vocabulary(GoldenSet.folder.appendingPathComponent(file)), bos: 2)
}

@Test func conversationsBecomeTheIdsThatTransformersGives() throws {
  let chats = try GoldenSet.lines("chats.jsonl", Chat.self)
  #expect(chats.count > 150)
  let tokenizers = try Dictionary(uniqueKeysWithValues: Set(chats.map(\.vocabulary)).map { ($0, try tokenizer($0)) })
  for chat in chats {
    let template = try ChatTemplate(
      chat.template, #require(tokenizers[chat.vocabulary]), chat.special_tokens, trustControlTokens: chat.trust)
    let ids = try template.prompt(chat.messages.map { try $0.message() }, thinking: chat.thinking)
    #expect(ids == chat.ids, "\(chat.name), \(chat.vocabulary)")
  }
}

@Test func aTemplateThatKnowsNoSystemMessageRefusesALaterOneToo() throws {
  let refusal = "{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
  let source = "{% for m in messages %}\(refusal){% endfor %}"
  let template = try ChatTemplate(source, tokenizer("bundle/vocabulary.bin"))
  let failed = GemmaError("the chat template failed: no system", "check the roles and the content of the messages")
  #expect(throws: failed) {
    try template.prompt([Message(role: .user, content: "a"), Message(role: .system, content: "b")], thinking: false)
  }
}

@Test func aTemplateThatDropsEverySystemMessageHasNoPlaceForALaterOne() throws {
  let source = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
  let template = try ChatTemplate(source, tokenizer("bundle/vocabulary.bin"))
  let refusal = GemmaError("the chat template has no place for a system message", "put it into a message of the user")
  #expect(throws: refusal) {
    try template.prompt([Message(role: .user, content: "a"), Message(role: .system, content: "b")], thinking: false)
  }
}

@Test func moreFirstCharactersThanMarksAreRefused() throws {
  func mask(_ count: UInt8) throws -> ControlMask {
    let tokens = (0..<count).map { ([Unicode.Scalar(64 + $0)], Int($0)) }
    return try ControlMask(AddedTokens(Dictionary(uniqueKeysWithValues: tokens)))
  }
  let every = try mask(32)
  let text = String(String.UnicodeScalarView((64..<96).map { Unicode.Scalar(UInt8($0)) }))
  #expect(String(String.UnicodeScalarView(every.show(Array(every.hide(text).unicodeScalars)[...]))) == text)
  #expect(!every.hide(text).unicodeScalars.contains { text.unicodeScalars.contains($0) })
  #expect(throws: GemmaError.self) { try mask(33) }
}
