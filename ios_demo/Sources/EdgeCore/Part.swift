/// A graph beside the decoder, as a vision tower or a drafter: how each target runs it, and what a host must know.
///
/// A target runs it as an artifact of its own, or, where the engine owns state that both need, as functions of the
/// decoder's program.  This package runs none.
public struct Part: Sendable, Equatable {
  public let kind: String  // the contract that its inputs, outputs and settings follow
  public let artifacts: [String: Artifact]  // by target
  public let functions: [String: [Function]]  // of the decoder's program, by target
  public let settings: [String: Setting]
  public let golden: String  // calls to repeat

  /// One entry of the decoder's own program: an ExecuTorch method, or a Core ML function.
  public struct Function: Sendable, Equatable {
    public let name: String
    public let inputs: [Tensor]
    public let outputs: [Tensor]
  }

  /// What a host has to know of a part.
  public enum Setting: Sendable, Equatable {
    case bool(Bool)
    case int(Int)
    case double(Double)
    case text(String)
    case numbers([Double])
  }

  static let most = 64  // parts of a bundle
  static let mostFunctions = 64
  static let mostSettings = 256
  static let mostNumbers = 1024
  static let whole = -(1 << 53)...(1 << 53)  // what every language reads exactly

  /// Names of files that a field points to.
  var used: [String] { artifacts.values.flatMap { [$0.file, $0.data] } + [golden] }

  /// Whether a text is a name of a part, a kind, a function or a setting.
  static func isWord(_ text: String) -> Bool {
    guard (1...64).contains(text.utf8.count), let first = text.utf8.first, isLetter(first) else { return false }
    return text.utf8.allSatisfy { isLetter($0) || (48...57).contains($0) || $0 == 45 || $0 == 95 }
  }

  private static func isLetter(_ byte: UInt8) -> Bool { (65...90).contains(byte) || (97...122).contains(byte) }
}

extension Part {
  init(_ fields: Fields) throws {
    kind = try fields.word("kind")
    artifacts = try fields.has("artifacts") ? fields.map("artifacts") { try Artifact(Fields($0, at: $1)) } : [:]
    functions = try fields.has("functions") ? fields.map("functions", Part.functions) : [:]
    settings = try fields.has("settings") ? fields.words("settings", most: Part.mostSettings, Part.setting) : [:]
    golden = try fields.has("golden") ? fields.string("golden") : ""
  }

  private static func functions(_ value: JSON, _ path: String) throws -> [Function] {
    guard case .list(let functions) = value, functions.count <= mostFunctions else {
      throw GemmaError("\(path): is not a list of \(mostFunctions) functions at most", Bundle.fetchAgain)
    }
    return try functions.map { try Function(Fields($0, at: path)) }
  }

  private static func setting(_ value: JSON, _ path: String) throws -> Setting {
    switch value {
    case .bool(let flag): return .bool(flag)
    case .string(let text): return .text(text)
    case .int(let number) where whole.contains(number): return .int(number)
    case .double(let number) where number.isFinite: return .double(number)
    case .list(let values) where values.count <= mostNumbers:
      return .numbers(try values.map { try number($0, path) })
    default: throw GemmaError("\(path): is no setting of a part", Bundle.fetchAgain)
    }
  }

  private static func number(_ value: JSON, _ path: String) throws -> Double {
    if case .int(let number) = value { return Double(try Fields.int(.int(number), whole, path)) }
    return try Fields.double(value, path)
  }
}

extension Part.Function {
  init(_ fields: Fields) throws {
    name = try fields.word("name")
    inputs = try fields.each("inputs") { try Tensor(Fields($0, at: $1)) }
    outputs = try fields.each("outputs") { try Tensor(Fields($0, at: $1)) }
  }
}

extension Manifest {
  /// Throws GemmaError unless each target runs a part in one way, and a function is of a program that there is.
  func checkParts() throws {
    for (name, part) in parts.sorted(by: { $0.key < $1.key }) {
      for (target, functions) in part.functions {
        let names = functions.map(\.name)
        if artifacts[target] == nil {
          let shown = names.joined(separator: ", ")
          throw GemmaError("part '\(name)' has functions (\(shown)) of '\(target)', no artifact", Bundle.fetchAgain)
        }
        if part.artifacts[target] != nil {
          throw GemmaError("part '\(name)' has an artifact and functions of '\(target)'", Bundle.fetchAgain)
        }
        if Set(names).count < names.count {
          throw GemmaError("part '\(name)' names a function of '\(target)' twice", Bundle.fetchAgain)
        }
      }
    }
  }
}

extension Fields {
  /// A name of letters, digits, `_` and `-`.
  func word(_ name: String) throws -> String { try Fields.word(string(name), "\(path).\(name)") }

  static func word(_ text: String, _ path: String) throws -> String {
    guard Part.isWord(text) else { throw GemmaError("\(path): is not a name of a part's", Bundle.fetchAgain) }
    return text
  }

  /// Every value of an object of few names, with its path.
  func words<T>(_ name: String, most: Int, _ read: (JSON, String) throws -> T) throws -> [String: T] {
    let inner = try object(name)
    guard inner.values.count <= most else {
      throw GemmaError("\(inner.path): has \(inner.values.count) entries, of \(most) at most", Bundle.fetchAgain)
    }
    for word in inner.values.keys { _ = try Fields.word(word, inner.path) }
    return try map(name, read)
  }
}
