import EdgeCore
import EdgeEngines
import Foundation

/// `edge-cli run`: one prompt, answered as it comes; rates on standard error.
struct RunCommand {
  static let options: [String: Arguments.Takes] = [
    "--raw": .nothing, "--thinking": .nothing, "--engine": .value, "--temperature": .value, "--top-k": .value,
    "--top-p": .value, "--seed": .value, "--max-new-tokens": .value, "--context": .value, "--threads": .value,
  ]

  let arguments: Arguments

  init(_ arguments: Arguments) { self.arguments = arguments }

  func run() async throws {
    try arguments.count(1, 2)
    let bundle = try arguments.bundle()
    let opener = try await EngineChoice(arguments).opener(bundle)
    let session = try Session(bundle, context: arguments.number("--context", Int.self) ?? 0, engine: opener)
    let prompt = try arguments.words.count > 1 ? arguments.words[1] : standardInput()
    for try await event in try events(session, prompt) { show(event) }
  }

  private func events(_ session: Session, _ prompt: String) throws -> AsyncThrowingStream<Event, any Error> {
    let (sampling, limit) = (try sampling(session), try arguments.number("--max-new-tokens", Int.self))
    if arguments.has("--raw") {
      return try session.generate(
        session.tokenizer.encode(prompt, bos: true), sampling: sampling, maxNewTokens: limit)
    }
    return try session.chat(
      [Message(role: .user, content: prompt)], sampling: sampling, maxNewTokens: limit,
      thinking: arguments.has("--thinking"))
  }

  private func sampling(_ session: Session) throws -> Sampling {
    let given = try session.defaults()
    return try Sampling(
      temperature: arguments.number("--temperature", Double.self) ?? given.temperature,
      topK: arguments.number("--top-k", Int.self) ?? given.topK,
      topP: arguments.number("--top-p", Double.self) ?? given.topP, seed: arguments.number("--seed", UInt64.self))
  }

  private func standardInput() throws -> String {
    guard let text = String(data: FileHandle.standardInput.readDataToEndOfFile(), encoding: .utf8) else {
      throw GemmaError("standard input is not UTF-8", "convert it, or give the prompt as an argument")
    }
    return text
  }

  private func show(_ event: Event) {
    switch event {
    case .token(_, let text), .text(let text): FileHandle.standardOutput.write(Data(text.utf8))
    case .thought(let text): FileHandle.standardError.write(Data(text.utf8))
    case .end(let end):
      FileHandle.standardOutput.write(Data("\n".utf8))
      let rates = String(format: "prefill %.1f, decode %.1f tokens/s", end.prefillRate, end.decodeRate)
      FileHandle.standardError.write(Data("\(end.stop.rawValue) after \(end.newTokens) tokens; \(rates)\n".utf8))
    }
  }
}
