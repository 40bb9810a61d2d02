/// Names, those of a loop or a macro in front of those around it.
private final class Scope {
  private let around: Scope?
  private var values: [String: Value] = [:]

  init(_ around: Scope?) { self.around = around }

  func set(_ name: String, _ value: Value) { values[name] = value }

  func find(_ name: String) -> Value {
    var scope: Scope? = self
    while let here = scope {
      if let found = here.values[name] { return found }
      scope = here.around
    }
    return .undefined(name)
  }
}

/// Runs statements, with bounds on the work and the text of a hostile template.
final class Renderer {
  private static let mostSteps = 2_000_000
  private static let longest = 1 << 24
  private static let deepest = 50

  private enum Flow { case on, leave, next }

  private var steps = 0
  private var depth = 0
  private var out = ""

  func render(_ statements: [Statement], _ variables: Mapping) throws -> String {
    let scope = Scope(nil)
    for (name, value) in functions.pairs + variables.pairs { scope.set(name, value) }
    _ = try run(statements, Scope(scope))
    return out
  }

  private func step() throws {
    steps += 1
    guard steps <= Renderer.mostSteps else { throw TemplateError("the template does not end") }
  }

  private func write(_ text: String) throws {
    guard out.utf8.count + text.utf8.count <= Renderer.longest else {
      throw TemplateError("the template writes too much")
    }
    out += text
  }

  private func run(_ statements: [Statement], _ scope: Scope) throws -> Flow {
    for statement in statements {
      try step()
      switch statement {
      case .output(let text): try write(text)
      case .print(let value): try write(evaluate(value, scope).text())
      case .block(let body): try write(captured(body, Scope(scope)))
      case .choice(let branches, let otherwise):
        let flow = try run(chosen(branches, scope) ?? otherwise, scope)
        if flow != .on { return flow }
      case .loop(let loop): try runLoop(loop, scope)
      case .set(let names, let attribute, let value):
        try assign(names, attribute, evaluate(value, scope), scope)
      case .capture(let name, let body): scope.set(name, .string(try captured(body, Scope(scope))))
      case .macro(let macro):
        scope.set(macro.name, .callable(Callable { [unowned self] in .string(try call(macro, scope, $0)) }))
      case .leave: return .leave
      case .next: return .next
      }
    }
    return .on
  }

  private func chosen(_ branches: [(Expression, [Statement])], _ scope: Scope) throws -> [Statement]? {
    try branches.first { try evaluate($0.0, scope).truth }?.1
  }

  private func captured(_ body: [Statement], _ scope: Scope) throws -> String {
    let before = out
    out = ""
    defer { out = before }
    _ = try run(body, scope)
    return out
  }

  private func runLoop(_ loop: Loop, _ scope: Scope) throws {
    let values = try evaluate(loop.over, scope).iterated().filter { value in
      guard let filter = loop.filter else { return true }
      let inner = Scope(scope)
      try bind(loop.targets, value, inner)
      return try evaluate(filter, inner).truth
    }
    if values.isEmpty { _ = try run(loop.otherwise, Scope(scope)) }
    for index in values.indices {
      try step()
      let inner = Scope(scope)
      inner.set("loop", .map(place(index, values)))
      try bind(loop.targets, values[index], inner)
      if try run(loop.body, inner) == .leave { break }
    }
  }

  private func place(_ index: Int, _ values: [Value]) -> Mapping {
    let count = values.count
    return Mapping([
      ("index0", .int(index)), ("index", .int(index + 1)), ("first", .bool(index == 0)),
      ("last", .bool(index == count - 1)), ("length", .int(count)), ("revindex", .int(count - index)),
      ("revindex0", .int(count - index - 1)),
      ("previtem", index > 0 ? values[index - 1] : .undefined("previtem")),
      ("nextitem", index + 1 < count ? values[index + 1] : .undefined("nextitem")),
    ])
  }

  private func bind(_ names: [String], _ value: Value, _ scope: Scope) throws {
    guard names.count > 1 else { return scope.set(names[0], value) }
    let parts = try value.iterated()
    guard parts.count == names.count else { throw TemplateError("\(parts.count) values for \(names.count) names") }
    for (name, part) in zip(names, parts) { scope.set(name, part) }
  }

  private func assign(_ names: [String], _ attribute: String?, _ value: Value, _ scope: Scope) throws {
    guard let attribute else { return try bind(names, value, scope) }
    guard case .namespace(let space) = scope.find(names[0]) else {
      throw TemplateError("only attributes of a namespace can be set")
    }
    space.values[attribute] = value
  }

  private func call(_ macro: Macro, _ scope: Scope, _ given: Arguments) throws -> String {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Renderer.deepest else { throw TemplateError("macros call each other too deep") }
    guard given.ordered.count <= macro.parameters.count else {
      throw TemplateError("too many arguments for \(macro.name)")
    }
    if let unknown = given.named.keys.first(where: { name in !macro.parameters.contains { $0.0 == name } }) {
      throw TemplateError("\(macro.name) has no argument \(unknown)")
    }
    let inner = Scope(scope)
    for (index, (name, otherwise)) in macro.parameters.enumerated() {
      let value = try given.at(index, name) ?? otherwise.map { try evaluate($0, inner) }
      inner.set(name, value ?? .undefined(name))
    }
    return try captured(macro.body, inner)
  }

  private func evaluate(_ node: Expression, _ scope: Scope) throws -> Value {
    try step()
    switch node {
    case .text(let text): return .string(text)
    case .int(let value): return .int(value)
    case .big(let digits): return .big(digits)
    case .double(let value): return .double(value)
    case .bool(let value): return .bool(value)
    case .none: return .none
    case .name(let name): return scope.find(name)
    case .list(let items): return .list(try items.map { try evaluate($0, scope) })
    case .map(let items):
      return .map(Mapping(try items.map { (try evaluate($0, scope).string(), try evaluate($1, scope)) }))
    case .unary(let name, let operand): return try unary(name, evaluate(operand, scope))
    case .binary(let name, let left, let right): return try binary(name, left, right, scope)
    case .comparison(let first, let rest): return try comparison(first, rest, scope)
    case .conditional(let value, let condition, let otherwise):
      if try evaluate(condition, scope).truth { return try evaluate(value, scope) }
      return try otherwise.map { try evaluate($0, scope) } ?? .undefined("the other case")
    default: return try applied(node, scope)
    }
  }

  /// Parts, calls, filters and tests of a value.
  private func applied(_ node: Expression, _ scope: Scope) throws -> Value {
    switch node {
    case .attribute(let of, let name): return try evaluate(of, scope).attribute(name)
    case .item(let of, let key): return try evaluate(of, scope).item(evaluate(key, scope))
    case .slice(let of, let start, let stop, let step):
      let bounds = try [start, stop, step].map { try $0.map { try evaluate($0, scope) } }
      return try evaluate(of, scope).slice(bounds[0], bounds[1], bounds[2])
    case .call(let of, let given):
      let called = try evaluate(of, scope)
      guard case .callable(let callable) = called else { throw TemplateError("\(called.typeName) can not be called") }
      return try callable.call(arguments(given, scope, []))
    case .filter(let of, let name, let given):
      return try filter(name).call(arguments(given, scope, [evaluate(of, scope)]))
    case .test(let of, let name, let given): return try test(name).call(arguments(given, scope, [evaluate(of, scope)]))
    default: throw TemplateError("an expression that is none")
    }
  }

  private func arguments(_ given: Given, _ scope: Scope, _ first: [Value]) throws -> Arguments {
    Arguments(
      ordered: first + (try given.ordered.map { try evaluate($0, scope) }),
      named: Mapping(try given.named.map { ($0, try evaluate($1, scope)) }))
  }

  private func unary(_ name: String, _ value: Value) throws -> Value {
    if name == "not" { return .bool(!value.truth) }
    return name == "-" ? try calculated("*", .int(-1), value) : try calculated("+", .int(0), value)
  }

  private func binary(_ name: String, _ left: Expression, _ right: Expression, _ scope: Scope) throws -> Value {
    let first = try evaluate(left, scope)
    if name == "or" { return first.truth ? first : try evaluate(right, scope) }
    if name == "and" { return first.truth ? try evaluate(right, scope) : first }
    return try calculated(name, first, evaluate(right, scope))
  }

  private func comparison(_ first: Expression, _ rest: [(String, Expression)], _ scope: Scope) throws -> Value {
    var left = try evaluate(first, scope)
    for (name, node) in rest {
      let right = try evaluate(node, scope)
      guard try compares(name, left, right) else { return .bool(false) }
      left = right
    }
    return .bool(true)
  }
}
