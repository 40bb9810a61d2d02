import Foundation

/// One conversation with a bundle: events as they come, stop ids, cancellation, turns without re-reading.
public actor Session {
  static let turns = 4  // ends of turns that are remembered

  public nonisolated let bundle: Bundle
  public nonisolated let tokenizer: Tokenizer
  public nonisolated let context: Int
  private nonisolated let control: ControlTokens
  private nonisolated let template: ChatTemplate?
  private nonisolated let cancel: @Sendable () -> Void
  private let engine: any Engine
  private var ids: [Int] = []  // what the caches hold
  private var checkpoints: [Mark] = []  // at the ends of turns, from the first to the last

  /// `engine` loads the bundle's artifact; `context` limits the tokens of prompt and answer, 0: to what it can.
  ///
  /// trustControlTokens: what messages hold of control tokens is read as such, not as text.
  /// Throws GemmaError if a part of the bundle can not be loaded.
  public init(
    _ bundle: Bundle, context: Int = 0, trustControlTokens: Bool = false,
    engine: @Sendable (Bundle) throws -> any Engine
  ) throws {
    self.bundle = bundle
    tokenizer = try Tokenizer(bundle)
    control = ControlTokens(tokenizer)
    template = try ChatTemplate(bundle, tokenizer, trustControlTokens: trustControlTokens)
    let opened = try engine(bundle)
    self.context = context > 0 ? min(context, opened.context) : opened.context
    cancel = opened.cancel
    self.engine = opened
  }

  /// The sampling that the checkpoint's generation_config asks for.
  public nonisolated func defaults(seed: UInt64? = nil) throws -> Sampling {
    let made = bundle.manifest.generation
    return try Sampling(
      temperature: made.doSample ? made.temperature : 0, topK: made.topK, topP: made.topP, seed: seed)
  }

  public nonisolated var canThink: Bool { control.canThink }

  /// Forget everything read so far.
  public func reset() throws {
    (ids, checkpoints) = ([], [])
    try engine.reset()
  }

  /// Answer messages: text and thoughts as they come, then one end.  Cancel the task that reads to end it early.
  ///
  /// thinkingBudget: the thought is closed after so many tokens.
  /// Throws GemmaError, before anything runs, for messages that can not be rendered or are over the context.
  public nonisolated func chat(
    _ messages: [Message], sampling: Sampling? = nil, maxNewTokens: Int? = nil, thinking: Bool = false,
    thinkingBudget: Int? = nil
  ) throws -> AsyncThrowingStream<Event, any Error> {
    guard let template else {
      throw GemmaError("\(bundle.folder.path): this model has no chat template", "give the prompt unchanged")
    }
    guard !thinking || control.canThink else {
      throw GemmaError("\(bundle.folder.path): this model cannot think first", "leave thinking out")
    }
    let prompt = try template.prompt(messages, thinking: thinking)
    try check(prompt, maxNewTokens)
    let steering = try Steering(sampling ?? defaults(), tokenizer, control, budget: thinkingBudget)
    return stream { try await $0.answer(prompt, steering, maxNewTokens, $1) }
  }

  /// Stream the tokens that follow a prompt, then one end.
  ///
  /// A prompt that begins with what the caches hold is read from there on.  The stop token itself is not part of the
  /// stream.  Throws GemmaError for an empty prompt, or one over the context.
  public nonisolated func generate(
    _ prompt: [Int], sampling: Sampling? = nil, maxNewTokens: Int? = nil
  ) throws -> AsyncThrowingStream<Event, any Error> {
    try check(prompt, maxNewTokens)
    let sampler = try Sampler(sampling ?? defaults())
    return stream { try await $0.continuation(prompt, sampler, maxNewTokens, $1) }
  }

  private nonisolated func check(_ prompt: [Int], _ limit: Int?) throws {
    guard !prompt.isEmpty else { throw GemmaError("the prompt is empty", "give at least one token") }
    guard prompt.count <= context else {
      throw GemmaError("the prompt has \(prompt.count) tokens, but the context is \(context)", "shorten the prompt")
    }
    if let limit, limit < 1 {
      throw GemmaError("max new tokens must be at least 1, not \(limit)", "leave it out for no limit")
    }
    if let bad = prompt.first(where: { !(0..<bundle.manifest.model.vocabSize).contains($0) }) {
      throw GemmaError("token id \(bad): the model has \(bundle.manifest.model.vocabSize)", "use its tokenizer")
    }
  }

  private typealias Continuation = AsyncThrowingStream<Event, any Error>.Continuation

  /// Run work of this session as a stream; who stops reading it stops the work.
  private nonisolated func stream(
    _ work: @escaping @Sendable (isolated Session, Continuation) async throws -> Void
  ) -> AsyncThrowingStream<Event, any Error> {
    AsyncThrowingStream { continuation in
      let task = Task {
        do {
          try await work(self, continuation)
          continuation.finish()
        } catch {
          continuation.finish(throwing: error)
        }
      }
      let cancel = cancel
      continuation.onTermination = { reason in
        guard case .cancelled = reason else { return }
        task.cancel()
        cancel()
      }
    }
  }

  private func answer(_ prompt: [Int], _ start: Steering, _ limit: Int?, _ out: Continuation) async throws {
    var steering = start
    var reader = AnswerReader(tokenizer, control, prompt: prompt)
    var run = try Run(prompt, reused: reuse(prompt), limit: limit)
    try await generate(&run) { logits in
      try steering.choose(logits, reader)
    } said: { token in
      for event in reader.push(token) { out.yield(event) }
    }
    for event in reader.finish() { out.yield(event) }
    out.yield(.end(run.end(thoughtTokens: reader.thoughtTokens)))
  }

  private func continuation(_ prompt: [Int], _ start: Sampler, _ limit: Int?, _ out: Continuation) async throws {
    var sampler = start
    var text = TextStream(tokenizer)
    var run = try Run(prompt, reused: reuse(prompt), limit: limit)
    try await generate(&run) { logits in
      sampler.choose(logits)
    } said: { token in
      out.yield(.token(token, text.push(token)))
    }
    out.yield(.end(run.end(thoughtTokens: 0)))
  }

  /// One answer while it is made.
  private struct Run {
    let prompt: [Int]
    let reused: Int
    let limit: Int?
    let started = ContinuousClock.now
    var firstSeconds = 0.0
    var spentSeconds = 0.0
    var made = 0
    var stop = Stop.length

    init(_ prompt: [Int], reused: Int, limit: Int?) {
      (self.prompt, self.reused, self.limit) = (prompt, reused, limit)
    }

    func end(thoughtTokens: Int) -> End {
      End(
        stop: stop, promptTokens: prompt.count, reused: reused, newTokens: made, thoughtTokens: thoughtTokens,
        firstTokenSeconds: firstSeconds,
        prefillRate: firstSeconds > 0 ? Double(prompt.count - reused) / firstSeconds : 0,
        decodeRate: spentSeconds > 0 ? Double(made - 1) / spentSeconds : 0)
    }
  }

  private func generate(
    _ run: inout Run, choose: ([Float]) throws -> Int, said: (Int) -> Void
  ) async throws {
    engine.resume()
    do {
      var logits = try await read(Array(run.prompt[run.reused...]))
      try markTurn()
      run.firstSeconds = seconds(since: run.started)
      while true {
        let token = try choose(logits)
        if bundle.manifest.generation.stop.contains(token) {
          run.stop = .stop
          return
        }
        run.made += 1
        said(token)
        if run.made == run.limit { return }
        if engine.position >= context {
          run.stop = .context
          return
        }
        let begun = ContinuousClock.now
        logits = try await read([token])
        run.spentSeconds += seconds(since: begun)
      }
    } catch is CancellationError {
      run.stop = .cancelled
    }
  }

  private func seconds(since start: ContinuousClock.Instant) -> Double {
    let (whole, parts) = (ContinuousClock.now - start).components
    return Double(whole) + Double(parts) * 1e-18
  }

  /// Read tokens, a chunk at a time, and keep `ids` in step with the caches; the last logits.
  private func read(_ tokens: [Int]) async throws -> [Float] {
    engine.prefetch(tokens)
    var logits: [Float] = []
    for start in stride(from: 0, to: tokens.count, by: engine.chunk) {
      await Task.yield()
      try Task.checkCancellation()
      let piece = Array(tokens[start..<min(start + engine.chunk, tokens.count)])
      logits = try engine.forward(piece).logits
      ids += piece
    }
    return logits
  }

  /// Tokens of the prompt that are in the caches; one at least is always read again for its logits.
  private func reuse(_ prompt: [Int]) throws -> Int {
    if ids.count != engine.position { try reset() }  // an error came between the two
    var shared = commonPrefix(ids, prompt.dropLast())
    if shared < ids.count { shared = try goBack(to: shared) }
    ids.removeSubrange(shared...)
    checkpoints.removeAll { $0.position > shared }
    return shared
  }

  /// The position that was reached: a window that has moved on comes back from an earlier turn's end.
  private func goBack(to position: Int) throws -> Int {
    if engine.rewind(to: position) { return position }
    for mark in checkpoints.reversed() {
      try engine.restore(mark)
      if mark.position <= position { return mark.position }
      if engine.rewind(to: position) { return position }
    }
    try engine.reset()
    return 0
  }

  /// Remember the end of a prompt, where the next turn may have to come back to.
  ///
  /// Of too many the one goes whose neighbours are nearest, but never the last.
  private func markTurn() throws {
    checkpoints.append(try engine.save())
    guard checkpoints.count > Session.turns else { return }
    let at = [0] + checkpoints.map(\.position)
    let gaps = zip(at, at.dropFirst(2)).map { $1 - $0 }
    guard let nearest = gaps.indices.min(by: { gaps[$0] < gaps[$1] }) else { return }
    checkpoints.remove(at: nearest)
  }
}

func commonPrefix(_ a: [Int], _ b: ArraySlice<Int>) -> Int {
  zip(a, b).prefix { $0 == $1 }.count
}
