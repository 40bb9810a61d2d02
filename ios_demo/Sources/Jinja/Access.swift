import Foundation

extension Value {
  /// `value.name`: a method or a part; never a way out of the sandbox.
  func attribute(_ name: String) throws -> Value {
    if isUndefined { throw TemplateError("\(typeName) so it has no \(name)") }
    if name.hasPrefix("_") { throw TemplateError("the attribute '\(name)' is not safe") }
    if case .namespace(let space) = self { return space.values[name] ?? .undefined(name) }
    if let found = method(name) { return .callable(found) }
    if case .map(let values) = self { return values[name] ?? .undefined(name) }
    return .undefined(name)
  }

  /// `value[key]`
  func item(_ key: Value) throws -> Value {
    switch (self, key) {
    case (.undefined, _): throw TemplateError("\(typeName) so it has no parts")
    case (.map(let values), .string(let name)): return try values[name] ?? attribute(name)
    case (_, .string(let name)): return try attribute(name)
    default: break
    }
    guard let index = key.integer else { return .undefined("a part") }
    let values = try iterated()
    if case .map = self { return .undefined("\(index)") }
    let at = index < 0 ? index + values.count : index
    return values.indices.contains(at) ? values[at] : .undefined("\(index)")
  }

  /// `value[start:stop:step]`
  func slice(_ start: Value?, _ stop: Value?, _ step: Value?) throws -> Value {
    if isUndefined { throw TemplateError("\(typeName) so it has no parts") }
    let (values, by) = (try iterated(), try Value.bound(step) ?? 1)
    guard by != 0, abs(by) <= values.count + 1 || by == 1 else { throw TemplateError("a slice of step \(by)") }
    func place(_ value: Int?, _ otherwise: Int) -> Int {
      guard let value else { return otherwise }
      let at = value < 0 ? max(value, -values.count - 1) + values.count : value
      return by > 0 ? min(max(at, 0), values.count) : min(max(at, -1), values.count - 1)
    }
    let first = place(try Value.bound(start), by > 0 ? 0 : values.count - 1)
    let last = place(try Value.bound(stop), by > 0 ? values.count : -1)
    let taken = Swift.stride(from: first, to: last, by: by).map { values[$0] }
    guard case .string = self else { return .list(taken) }
    return .string(try taken.map { try $0.string() }.joined())
  }

  private static func bound(_ value: Value?) throws -> Int? {
    guard let value else { return nil }
    if case .none = value { return nil }
    guard let found = value.integer else { throw TemplateError("\(value.typeName) where an integer is wanted") }
    return found
  }

  /// What Python's texts and mappings can do, as far as templates ask.
  private func method(_ name: String) -> Callable? {
    switch self {
    case .string(let text): textMethods[name].map { method in Callable { try method(text, $0) } }
    case .map(let values): mappingMethods[name].map { method in Callable { try method(values, $0) } }
    default: nil
    }
  }
}

private typealias Method<T> = (T, Arguments) throws -> Value

private var mappingMethods: [String: Method<Mapping>] {
  [
    "get": { values, given in
      guard case .string(let key)? = given.at(0, "key") else { return given.at(1, "default") ?? Value.none }
      return values[key] ?? given.at(1, "default") ?? Value.none
    },
    "items": { values, _ in .list(values.pairs.map { .list([.string($0), $1]) }) },
    "keys": { values, _ in .list(values.keys.map(Value.string)) },
    "values": { values, _ in .list(values.pairs.map(\.1)) },
  ]
}

private var textMethods: [String: Method<String>] {
  [
    "split": { text, given in
      let most = given.at(1, "maxsplit")?.integer ?? -1
      return .list(try split(text, given.at(0, "sep") ?? Value.none, most).map(Value.string))
    },
    "strip": { text, given in .string(try stripped(text, given.at(0, "chars"))) },
    "lstrip": { text, given in .string(try stripped(text, given.at(0, "chars"), right: false)) },
    "rstrip": { text, given in .string(try stripped(text, given.at(0, "chars"), left: false)) },
    "startswith": { text, given in
      .bool(try affixes(given).contains { text.unicodeScalars.starts(with: $0.unicodeScalars) })
    },
    "endswith": { text, given in
      .bool(try affixes(given).contains { text.unicodeScalars.reversed().starts(with: $0.unicodeScalars.reversed()) })
    },
    "replace": { text, given in .string(replaced(text, try given.text(0, "old"), try given.text(1, "new"))) },
    "upper": { text, _ in .string(text.uppercased()) },
    "lower": { text, _ in .string(text.lowercased()) },
    "title": { text, _ in .string(titled(text)) },
    "capitalize": { text, _ in .string(capitalized(text)) },
    "join": { text, given in
      .string(try (given.at(0, "iterable") ?? .list([])).iterated().map { try $0.string() }.joined(separator: text))
    },
  ]
}

private func affixes(_ given: Arguments) throws -> [String] {
  if case .list(let values)? = given.at(0, "prefix") { return try values.map { try $0.string() } }
  return [try given.text(0, "prefix")]
}
