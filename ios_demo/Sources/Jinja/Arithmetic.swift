import Foundation

private let longest = 1 << 24  // characters of a text that a template makes

/// An operator between two values.  Throws TemplateError where it has no meaning, or no place in 64 bits.
func calculated(_ name: String, _ a: Value, _ b: Value) throws -> Value {
  switch (name, a, b) {
  case ("~", _, _): return .string(try a.text() + b.text())
  case ("+", .string(let x), .string(let y)): return .string(try checked(x + y))
  case ("+", .list(let x), .list(let y)): return .list(x + y)
  case ("*", .string(let x), _): return .string(String(repeating: x, count: try times(x.utf8.count, b)))
  case ("*", .list(let x), _): return .list(Array(repeating: x, count: try times(x.count, b)).flatMap { $0 })
  default: break
  }
  guard let x = a.number, let y = b.number else {
    throw TemplateError("\(a.typeName) \(name) \(b.typeName) has no meaning")
  }
  if ["/", "//", "%"].contains(name), y == 0 { throw TemplateError("division by zero") }
  if name != "/", let i = a.integer, let j = b.integer, name != "**" || j >= 0 { return .int(try whole(name, i, j)) }
  return .double(real(name, x, y))
}

private func checked(_ text: String) throws -> String {
  guard text.utf8.count <= longest else { throw TemplateError("a text too long") }
  return text
}

private func times(_ size: Int, _ count: Value) throws -> Int {
  guard let wanted = count.integer else { throw TemplateError("\(count.typeName) where an integer is wanted") }
  guard wanted <= longest, max(wanted, 0) * size <= longest else { throw TemplateError("a text too long") }
  return max(wanted, 0)
}

private func real(_ name: String, _ x: Double, _ y: Double) -> Double {
  switch name {
  case "+": x + y
  case "-": x - y
  case "*": x * y
  case "/": x / y
  case "//": (x / y).rounded(.down)
  case "%": x - (x / y).rounded(.down) * y
  default: pow(x, y)
  }
}

private func whole(_ name: String, _ x: Int, _ y: Int) throws -> Int {
  let found: (partialValue: Int, overflow: Bool)
  switch name {
  case "+": found = x.addingReportingOverflow(y)
  case "-": found = x.subtractingReportingOverflow(y)
  case "*": found = x.multipliedReportingOverflow(by: y)
  case "//": found = floored(x, y)
  case "%":
    let rest = y == -1 ? 0 : x % y
    found = (rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest, false)
  default: found = powered(x, y)
  }
  guard !found.overflow else { throw TemplateError("\(x) \(name) \(y) does not fit 64 bits") }
  return found.partialValue
}

private func floored(_ x: Int, _ y: Int) -> (partialValue: Int, overflow: Bool) {
  let found = x.dividedReportingOverflow(by: y)
  guard !found.overflow, x % y != 0, (x < 0) != (y < 0) else { return found }
  return (found.partialValue - 1, false)
}

private func powered(_ x: Int, _ y: Int) -> (partialValue: Int, overflow: Bool) {
  guard y <= 64 || (-1...1).contains(x) else { return (0, true) }
  var made: (partialValue: Int, overflow: Bool) = (1, false)
  for _ in 0..<(y <= 64 ? y : 64 + y % 2) {
    made = made.partialValue.multipliedReportingOverflow(by: x)
    if made.overflow { return made }
  }
  return made
}

/// A comparison of two values.
func compares(_ name: String, _ a: Value, _ b: Value) throws -> Bool {
  switch name {
  case "==": a.equals(b)
  case "!=": !a.equals(b)
  case "<": try a.isBefore(b)
  case ">": try b.isBefore(a)
  case "<=": try a.equals(b) || a.isBefore(b)
  case ">=": try a.equals(b) || b.isBefore(a)
  case "in": try b.contains(a)
  default: try !b.contains(a)
  }
}
