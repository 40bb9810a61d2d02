import Foundation

/// What a template computes with.
public indirect enum Value {
  case none
  case undefined(String)  // a name or a part that is not there: empty as text, an error in most uses
  case bool(Bool)
  case int(Int)
  case big(String)  // digits of an integer over 64 bits, which can only be shown and compared
  case double(Double)
  case string(String)
  case list([Value])
  case map(Mapping)
  case namespace(Namespace)
  case callable(Callable)

  var isUndefined: Bool { if case .undefined = self { true } else { false } }

  var truth: Bool {
    switch self {
    case .none, .undefined: false
    case .bool(let value): value
    case .int(let value): value != 0
    case .double(let value): value != 0
    case .string(let value): !value.isEmpty
    case .list(let values): !values.isEmpty
    case .map(let values): !values.keys.isEmpty
    case .big, .namespace, .callable: true
    }
  }

  var typeName: String {
    switch self {
    case .none: "None"
    case .undefined(let name): "'\(name)' is undefined,"
    case .bool: "a boolean"
    case .int, .big: "an integer"
    case .double: "a float"
    case .string: "text"
    case .list: "a list"
    case .map: "a mapping"
    case .namespace, .callable: "an object"
    }
  }

  func string() throws -> String {
    guard case .string(let text) = self else { throw TemplateError("\(typeName) where text is wanted") }
    return text
  }

  /// Booleans count as 0 and 1.
  var integer: Int? {
    switch self {
    case .bool(let value): value ? 1 : 0
    case .int(let value): value
    default: nil
    }
  }

  var number: Double? {
    if case .double(let value) = self { return value }
    return integer.map(Double.init)
  }

  /// The values of a loop; of a mapping its keys, of a text its characters.
  func iterated() throws -> [Value] {
    switch self {
    case .list(let values): return values
    case .map(let values): return values.keys.map(Value.string)
    case .string(let text): return text.unicodeScalars.map { .string(String($0)) }
    case .undefined: return []
    default: throw TemplateError("\(typeName) can not be looped over")
    }
  }

  func length() throws -> Int {
    if case .string(let text) = self { return text.unicodeScalars.count }
    return try iterated().count
  }

  func contains(_ value: Value) throws -> Bool {
    switch self {
    case .string(let text):
      let part = try value.string()
      return part.isEmpty || text.range(of: part, options: .literal) != nil
    case .map(let values):
      guard case .string(let key) = value else { return false }
      return values[key] != nil
    case .list(let values): return values.contains { $0.equals(value) }
    case .undefined: return false
    default: throw TemplateError("\(typeName) holds nothing")
    }
  }

  func equals(_ other: Value) -> Bool {
    switch (self, other) {
    case (.none, .none), (.undefined, .undefined): return true
    case (.string(let a), .string(let b)): return a.unicodeScalars.elementsEqual(b.unicodeScalars)
    case (.big(let a), .big(let b)): return a == b
    case (.list(let a), .list(let b)): return a.count == b.count && zip(a, b).allSatisfy { $0.equals($1) }
    case (.map(let a), .map(let b)):
      return a.keys.count == b.keys.count && a.pairs.allSatisfy { b[$0]?.equals($1) ?? false }
    default:
      guard let a = number, let b = other.number else { return false }
      return a == b
    }
  }

  /// Whether it comes before another.  Throws TemplateError for what has no order.
  func isBefore(_ other: Value) throws -> Bool {
    if let a = number, let b = other.number { return a < b }
    switch (self, other) {
    case (.string(let a), .string(let b)):
      return a.unicodeScalars.lexicographicallyPrecedes(b.unicodeScalars)
    case (.list(let a), .list(let b)):
      for (x, y) in zip(a, b) where !x.equals(y) { return try x.isBefore(y) }
      return a.count < b.count
    default: throw TemplateError("\(typeName) and \(other.typeName) have no order")
    }
  }
}

/// A mapping from texts, in the order in which they were put in.
public struct Mapping {
  public private(set) var keys: [String] = []
  private var values: [String: Value] = [:]

  public init() {}

  public init(_ pairs: [(String, Value)]) {
    for (key, value) in pairs { self[key] = value }
  }

  public subscript(key: String) -> Value? {
    get { values[key] }
    set {
      if values[key] == nil { keys.append(key) }
      values[key] = newValue ?? Value.none
    }
  }

  var pairs: [(String, Value)] { keys.map { ($0, values[$0] ?? .none) } }
}

/// Attributes that a template may set.
public final class Namespace {
  var values: Mapping

  init(_ values: Mapping) { self.values = values }
}

/// Something that a template can call.
public struct Callable {
  let call: (Arguments) throws -> Value

  init(_ call: @escaping (Arguments) throws -> Value) { self.call = call }
}

/// Values in order and by name.
public struct Arguments {
  let ordered: [Value]
  let named: Mapping

  func at(_ index: Int, _ name: String) -> Value? { index < ordered.count ? ordered[index] : named[name] }

  func text(_ index: Int, _ name: String) throws -> String { try (at(index, name) ?? .undefined(name)).string() }

  /// What a filter or a test is applied to.
  var subject: Value { ordered[0] }
}
