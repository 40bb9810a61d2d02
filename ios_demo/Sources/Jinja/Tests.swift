import Foundation

/// A test by its name, as in `x is defined`.
func test(_ name: String) throws -> Callable {
  guard let found = tests[name] else { throw TemplateError("a test '\(name)', which this reader does not know") }
  return Callable { .bool(try found($0)) }
}

private var tests: [String: (Arguments) throws -> Bool] {
  [
    "defined": { !$0.subject.isUndefined },
    "undefined": { $0.subject.isUndefined },
    "none": { if case .none = $0.subject { true } else { false } },
    "string": { if case .string = $0.subject { true } else { false } },
    "mapping": { if case .map = $0.subject { true } else { false } },
    "sequence": { isSequence($0.subject) },
    "iterable": { isSequence($0.subject) || $0.subject.isUndefined },
    "boolean": { if case .bool = $0.subject { true } else { false } },
    "number": { isInteger($0.subject) || $0.subject.number != nil },
    "integer": { if case .bool = $0.subject { false } else { isInteger($0.subject) } },
    "float": { if case .double = $0.subject { true } else { false } },
    "true": { if case .bool(true) = $0.subject { true } else { false } },
    "false": { if case .bool(false) = $0.subject { true } else { false } },
    "odd": { try whole($0.subject) & 1 == 1 },
    "even": { try whole($0.subject) & 1 == 0 },
    "callable": { if case .callable = $0.subject { true } else { false } },
    "divisibleby": { try calculated("%", $0.subject, $0.at(1, "num") ?? Value.none).equals(.int(0)) },
    "in": { try compares("in", $0.subject, $0.at(1, "seq") ?? Value.none) },
    "equalto": compared("=="), "eq": compared("=="), "ne": compared("!="),
    "lt": compared("<"), "le": compared("<="), "gt": compared(">"), "ge": compared(">="),
  ]
}

private func compared(_ name: String) -> (Arguments) throws -> Bool {
  { try compares(name, $0.subject, $0.at(1, "other") ?? Value.none) }
}

private func isSequence(_ value: Value) -> Bool {
  switch value {
  case .list, .string, .map: true
  default: false
  }
}

private func isInteger(_ value: Value) -> Bool {
  if case .big = value { true } else { value.integer != nil }
}

private func whole(_ value: Value) throws -> Int {
  guard let found = value.integer else { throw TemplateError("\(value.typeName) where an integer is wanted") }
  return found
}
