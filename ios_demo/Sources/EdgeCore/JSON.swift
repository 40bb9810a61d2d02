import Foundation

/// Any JSON value.
public enum JSON: Equatable, Sendable, Decodable {
  case null
  case bool(Bool)
  case int(Int)
  case double(Double)
  case string(String)
  case list([JSON])
  case object([String: JSON])

  public init(from decoder: any Swift.Decoder) throws {
    let value = try decoder.singleValueContainer()
    if value.decodeNil() {
      self = .null
    } else if let found = try? value.decode(String.self) {
      self = .string(found)
    } else if let found = try? value.decode(Int.self) {
      self = .int(found)
    } else if let found = try? value.decode(Double.self) {
      self = .double(found)
    } else if let found = try? value.decode(Bool.self) {
      self = .bool(found)
    } else if let found = try? value.decode([JSON].self) {
      self = .list(found)
    } else {
      self = .object(try value.decode([String: JSON].self))
    }
  }

  /// Throws GemmaError for what is not JSON in UTF-8.
  public static func parse(_ raw: Data, _ path: String) throws -> JSON {
    do {
      return try JSONDecoder().decode(JSON.self, from: raw)
    } catch {
      throw GemmaError("\(path) is not JSON: \(reason(error))", Bundle.fetchAgain)
    }
  }

  /// Throws GemmaError for a text whose objects say a name twice, of which `parse` would take one.
  ///
  /// Then there are more colons outside strings than names in what was read of it.
  static func checkSaidOnce(_ raw: Data, _ value: JSON) throws {
    var (colons, inside, escaped) = (0, false, false)
    for byte in raw {
      if escaped {
        escaped = false
      } else if byte == UInt8(ascii: "\"") {
        inside.toggle()
      } else if inside {
        escaped = byte == UInt8(ascii: "\\")
      } else if byte == UInt8(ascii: ":") {
        colons += 1
      }
    }
    guard colons == value.names else { throw GemmaError("a name is said twice in one object", Bundle.fetchAgain) }
  }

  /// Of all objects in it.
  private var names: Int {
    switch self {
    case .list(let values): values.reduce(0) { $0 + $1.names }
    case .object(let values): values.values.reduce(values.count) { $0 + $1.names }
    default: 0
    }
  }

  private static func reason(_ error: any Error) -> String {
    guard case DecodingError.dataCorrupted(let context) = error else { return error.localizedDescription }
    return context.underlyingError.map { "\($0)" } ?? context.debugDescription
  }
}

/// An object whose fields are asked for by name; an error tells the path of the field.
public struct Fields: Sendable {
  let values: [String: JSON]
  let path: String

  /// Throws GemmaError if the value is not an object.
  public init(_ value: JSON, at path: String) throws {
    guard case .object(let values) = value else { throw Fields.wrong(path, "an object") }
    self.values = values
    self.path = path
  }

  func has(_ name: String) -> Bool { values[name] != nil }

  func value(_ name: String) throws -> JSON {
    guard let value = values[name] else {
      throw GemmaError("\(path): has no field `\(name)`", Bundle.fetchAgain)
    }
    return value
  }

  func int(_ name: String, in range: ClosedRange<Int> = Int.min...Int.max) throws -> Int {
    try Fields.int(value(name), range, "\(path).\(name)")
  }

  func double(_ name: String) throws -> Double { try Fields.double(value(name), "\(path).\(name)") }

  func string(_ name: String) throws -> String { try Fields.string(value(name), "\(path).\(name)") }

  func bool(_ name: String) throws -> Bool {
    guard case .bool(let found) = try value(name) else { throw Fields.wrong("\(path).\(name)", "true or false") }
    return found
  }

  func object(_ name: String) throws -> Fields { try Fields(value(name), at: "\(path).\(name)") }

  func ints(_ name: String) throws -> [Int] {
    try each(name) { try Fields.int($0, Int.min...Int.max, $1) }
  }

  func doubles(_ name: String) throws -> [Double] { try each(name, Fields.double) }

  /// Every element of a list, with its path.
  func each<T>(_ name: String, _ read: (JSON, String) throws -> T) throws -> [T] {
    guard case .list(let found) = try value(name) else { throw Fields.wrong("\(path).\(name)", "a list") }
    return try found.enumerated().map { try read($1, "\(path).\(name)[\($0)]") }
  }

  /// Every value of an object, with its path.
  func map<T>(_ name: String, _ read: (JSON, String) throws -> T) throws -> [String: T] {
    let inner = try object(name)
    return try Dictionary(uniqueKeysWithValues: inner.values.map { ($0, try read($1, "\(inner.path).\($0)")) })
  }

  static func int(_ value: JSON, _ range: ClosedRange<Int>, _ path: String) throws -> Int {
    guard case .int(let found) = value else { throw wrong(path, "a whole number") }
    guard range.contains(found) else {
      throw GemmaError("\(path): \(found) is not from \(range.lowerBound) to \(range.upperBound)", Bundle.fetchAgain)
    }
    return found
  }

  static func double(_ value: JSON, _ path: String) throws -> Double {
    switch value {
    case .int(let found): Double(found)
    case .double(let found): found
    default: throw wrong(path, "a number")
    }
  }

  static func string(_ value: JSON, _ path: String) throws -> String {
    guard case .string(let found) = value else { throw wrong(path, "text") }
    return found
  }

  private static func wrong(_ path: String, _ expected: String) -> GemmaError {
    GemmaError("\(path): is not \(expected)", Bundle.fetchAgain)
  }
}
