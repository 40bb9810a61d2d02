import Foundation

/// A filter by its name: its first argument is what it is applied to.
func filter(_ name: String) throws -> Callable {
  guard let found = filters[name] else { throw TemplateError("a filter '\(name)', which this reader does not know") }
  return Callable(found)
}

private typealias Applied = (Arguments) throws -> Value

private var filters: [String: Applied] {
  [
    "trim": { .string(try stripped($0.subject.text(), $0.at(1, "chars"))) },
    "upper": { .string(try $0.subject.text().uppercased()) },
    "lower": { .string(try $0.subject.text().lowercased()) },
    "title": { .string(titled(try $0.subject.text())) },
    "capitalize": { .string(capitalized(try $0.subject.text())) },
    "string": { .string(try $0.subject.text()) },
    "safe": { $0.subject },
    "length": { .int(try $0.subject.length()) },
    "count": { .int(try $0.subject.length()) },
    "list": { .list(try $0.subject.iterated()) },
    "items": { given in
      guard case .map(let values) = given.subject else { return .list([]) }
      return .list(values.pairs.map { .list([.string($0), $1]) })
    },
    "int": { toInteger($0.subject, $0.at(1, "default") ?? .int(0)) },
    "float": { given in
      if case .string(let text) = given.subject { return .double(Double(text) ?? 0) }
      return .double(given.subject.number ?? 0)
    },
    "first": { try $0.subject.iterated().first ?? .undefined("first") },
    "last": { try $0.subject.iterated().last ?? .undefined("last") },
    "reverse": { given in
      let turned = Array(try given.subject.iterated().reversed())
      guard case .string = given.subject else { return .list(turned) }
      return .string(try turned.map { try $0.string() }.joined())
    },
    "join": { given in
      let between = try (given.at(1, "d") ?? .string("")).text()
      return .string(try given.subject.iterated().map { try $0.text() }.joined(separator: between))
    },
    "replace": { .string(replaced(try $0.subject.text(), try $0.text(1, "old"), try $0.text(2, "new"))) },
    "sort": { .list(try $0.subject.iterated().sorted { try folded($0).isBefore(folded($1)) }) },
    "unique": { given in
      .list(
        try given.subject.iterated().reduce(into: []) { kept, value in
          if !kept.contains(where: { folded($0).equals(folded(value)) }) { kept.append(value) }
        })
    },
    "dictsort": dictsorted,
    "default": defaulted,
    "d": defaulted,
    "tojson": { .string(try $0.subject.json(indent: min($0.at(1, "indent")?.integer ?? -1, 100))) },
    "map": mapped,
    "select": { try chosen($0, attribute: false, wanted: true) },
    "reject": { try chosen($0, attribute: false, wanted: false) },
    "selectattr": { try chosen($0, attribute: true, wanted: true) },
    "rejectattr": { try chosen($0, attribute: true, wanted: false) },
  ]
}

private func defaulted(_ given: Arguments) -> Value {
  let empty = (given.at(2, "boolean")?.truth ?? false) && !given.subject.truth
  return given.subject.isUndefined || empty ? given.at(1, "default_value") ?? .string("") : given.subject
}

private func toInteger(_ value: Value, _ otherwise: Value) -> Value {
  if let found = value.integer { return .int(found) }
  var number = value.number
  if case .string(let text) = value {
    if let found = Int(text.trimmingCharacters(in: .whitespaces)) { return .int(found) }
    number = Double(text)
  }
  return number.flatMap { Int(exactly: $0.rounded(.towardZero)) }.map(Value.int) ?? otherwise
}

/// Texts are sorted without regard to case.
private func folded(_ value: Value) -> Value {
  if case .string(let text) = value { .string(text.lowercased()) } else { value }
}

private func dictsorted(_ given: Arguments) throws -> Value {
  guard case .map(let values) = given.subject else {
    throw TemplateError("\(given.subject.typeName) where a mapping is wanted")
  }
  let sorted = try values.pairs.sorted { try folded(.string($0.0)).isBefore(folded(.string($1.0))) }
  return .list(sorted.map { .list([.string($0), $1]) })
}

private func mapped(_ given: Arguments) throws -> Value {
  let values = try given.subject.iterated()
  if let attribute = given.named["attribute"] { return .list(try values.map { try $0.item(attribute) }) }
  let one = try filter(given.text(1, "filter"))
  let rest = Array(given.ordered.dropFirst(2))
  return .list(try values.map { try one.call(Arguments(ordered: [$0] + rest, named: given.named)) })
}

private func chosen(_ given: Arguments, attribute: Bool, wanted: Bool) throws -> Value {
  let rest = given.ordered.dropFirst(attribute ? 2 : 1)
  let one = try rest.first.map { try test($0.string()) }
  return .list(
    try given.subject.iterated().filter { value in
      let tested = attribute ? try value.item(given.at(1, "attribute") ?? .undefined("attribute")) : value
      guard let one else { return tested.truth == wanted }
      let arguments = Arguments(ordered: [tested] + rest.dropFirst(), named: Mapping())
      return try one.call(arguments).truth == wanted
    })
}
