/// Tokens to statements.  What released templates do not use is refused with its name.
struct Parser {
  private static let deepest = 100
  private static let notOperands: Set<String> = ["else", "or", "and", "is", "if", "in", "not"]

  private let tokens: [Token]
  private var at = 0
  private var depth = 0

  init(_ tokens: [Token]) { self.tokens = tokens }

  private var token: Token { tokens[at] }
  private var following: Token { tokens[min(at + 1, tokens.count - 1)] }

  mutating func template() throws -> [Statement] {
    let statements = try body(until: [])
    guard token.kind == .end else { throw TemplateError("\(token) without its beginning") }
    return statements
  }

  /// Statements up to a block of one of these names, which is left to read.
  private mutating func body(until ends: [String]) throws -> [Statement] {
    var statements: [Statement] = []
    while true {
      switch token.kind {
      case .text: statements.append(.output(next().text))
      case .printBegin:
        next()
        statements.append(.print(try tuple()))
        try expect(.printEnd)
      case .blockBegin:
        next()
        if token.kind == .name, ends.contains(token.text) { return statements }
        statements.append(try nested { try $0.statement() })
      default:
        guard let missing = ends.last else { return statements }
        throw TemplateError("\(missing) is missing")
      }
    }
  }

  private mutating func statement() throws -> Statement {
    let name = try expect(.name).text
    let made: Statement
    switch name {
    case "if": made = try choice()
    case "for": made = try loop()
    case "set": made = try assignment()
    case "macro": made = try macro()
    case "generation": made = try generation()
    case "break": made = .leave
    case "continue": made = .next
    default: throw TemplateError("a tag '\(name)', which this reader does not know")
    }
    try expect(.blockEnd)
    return made
  }

  private mutating func choice() throws -> Statement {
    var branches: [(Expression, [Statement])] = []
    while true {
      let condition = try tuple()
      try expect(.blockEnd)
      branches.append((condition, try body(until: ["elif", "else", "endif"])))
      switch next().text {
      case "elif": continue
      case "else":
        try expect(.blockEnd)
        let otherwise = try body(until: ["endif"])
        next()
        return .choice(branches, else: otherwise)
      default: return .choice(branches, else: [])
      }
    }
  }

  private mutating func loop() throws -> Statement {
    let targets = try names()
    guard next().isName("in") else { throw TemplateError("for without in") }
    let first = try or()
    let over = token.isSymbol(",") ? try rest(first) : first
    var filter: Expression?
    if token.isName("if") {
      next()
      filter = try expression()
    }
    try expect(.blockEnd)
    let body = try body(until: ["else", "endfor"])
    var otherwise: [Statement] = []
    if next().text == "else" {
      try expect(.blockEnd)
      otherwise = try self.body(until: ["endfor"])
      next()
    }
    return .loop(Loop(targets: targets, over: over, filter: filter, body: body, otherwise: otherwise))
  }

  private mutating func assignment() throws -> Statement {
    let names = try names()
    if token.isSymbol(".") {
      next()
      let attribute = try expect(.name).text
      try symbol("=")
      return .set(names, attribute: attribute, try tuple())
    }
    if token.isSymbol("=") {
      next()
      return .set(names, attribute: nil, try tuple())
    }
    try expect(.blockEnd)
    let body = try body(until: ["endset"])
    next()
    return .capture(names[0], body)
  }

  /// What trainers mark as an assistant's own words: text as any other.
  private mutating func generation() throws -> Statement {
    try expect(.blockEnd)
    let body = try body(until: ["endgeneration"])
    next()
    return .block(body)
  }

  private mutating func macro() throws -> Statement {
    let name = try expect(.name).text
    try symbol("(")
    let parameters = try items(")") { parser in
      let parameter = try parser.expect(.name).text
      guard parser.token.isSymbol("=") else { return (parameter, Expression?.none) }
      parser.next()
      return (parameter, try parser.expression())
    }
    try expect(.blockEnd)
    let body = try body(until: ["endmacro"])
    next()
    return .macro(Macro(name: name, parameters: parameters, body: body))
  }

  private mutating func names() throws -> [String] {
    let bracketed = token.isSymbol("(")
    if bracketed { next() }
    var names = [try expect(.name).text]
    while token.isSymbol(",") {
      next()
      if token.kind == .name { names.append(next().text) }
    }
    if bracketed { try symbol(")") }
    return names
  }

  // Expressions, from the loosest to the tightest.

  private mutating func tuple() throws -> Expression {
    let first = try expression()
    return token.isSymbol(",") ? try rest(first) : first
  }

  private mutating func rest(_ first: Expression) throws -> Expression {
    var items = [first]
    while token.isSymbol(",") {
      next()
      if token.kind == .printEnd || token.kind == .blockEnd || token.isSymbol(")") { break }
      items.append(try expression())
    }
    return .list(items)
  }

  private mutating func expression() throws -> Expression {
    try nested { parser in
      var value = try parser.or()
      while parser.token.isName("if") {
        parser.next()
        let condition = try parser.or()
        var otherwise: Expression?
        if parser.token.isName("else") {
          parser.next()
          otherwise = try parser.expression()
        }
        value = .conditional(value, if: condition, else: otherwise)
      }
      return value
    }
  }

  private mutating func or() throws -> Expression { try leftmost({ $0.isName("or") }) { try $0.and() } }

  private mutating func and() throws -> Expression { try leftmost({ $0.isName("and") }) { try $0.not() } }

  private mutating func not() throws -> Expression {
    guard token.isName("not") else { return try comparison() }
    next()
    return .unary("not", try nested { try $0.not() })
  }

  private mutating func comparison() throws -> Expression {
    let first = try sum()
    var rest: [(String, Expression)] = []
    while let name = comparing() { rest.append((name, try sum())) }
    return rest.isEmpty ? first : .comparison(first, rest)
  }

  private mutating func comparing() -> String? {
    if token.isName("not"), following.isName("in") {
      next()
      next()
      return "not in"
    }
    let symbols: Set<String> = ["==", "!=", "<", ">", "<=", ">="]
    return token.isName("in") || (token.kind == .symbol && symbols.contains(token.text)) ? next().text : nil
  }

  private mutating func sum() throws -> Expression { try leftmost(["+", "-"]) { try $0.joined() } }

  private mutating func joined() throws -> Expression { try leftmost(["~"]) { try $0.product() } }

  private mutating func product() throws -> Expression { try leftmost(["*", "/", "//", "%"]) { try $0.power() } }

  private mutating func power() throws -> Expression { try leftmost(["**"]) { try $0.unary(filters: true) } }

  private mutating func leftmost(_ symbols: Set<String>, _ operand: (inout Parser) throws -> Expression) throws
    -> Expression
  {
    try leftmost({ $0.kind == .symbol && symbols.contains($0.text) }, operand)
  }

  private mutating func leftmost(_ matches: (Token) -> Bool, _ operand: (inout Parser) throws -> Expression) throws
    -> Expression
  {
    var left = try operand(&self)
    while matches(token) {
      let name = next().text
      left = .binary(name, left, try operand(&self))
    }
    return left
  }

  private mutating func unary(filters: Bool) throws -> Expression {
    var operand: Expression
    if token.isSymbol("-") || token.isSymbol("+") {
      let sign = next().text
      operand = .unary(sign, try nested { try $0.unary(filters: false) })
    } else {
      operand = try primary()
    }
    operand = try postfix(operand)
    return filters ? try filtersAndTests(operand) : operand
  }

  private mutating func primary() throws -> Expression {
    let first = next()
    switch first.kind {
    case .name: return Parser.constant(first.text) ?? .name(first.text)
    case .string:
      var text = first.text
      while token.kind == .string { text += next().text }
      return .text(text)
    case .integer: return Int(first.text).map { .int($0) } ?? .big(first.text)
    case .float: return .double(Double(first.text) ?? .infinity)
    case .symbol where first.text == "(": return try bracketed()
    case .symbol where first.text == "[": return .list(try items("]") { try $0.expression() })
    case .symbol where first.text == "{":
      return .map(
        try items("}") { parser in
          let key = try parser.expression()
          try parser.symbol(":")
          return (key, try parser.expression())
        })
    default: throw TemplateError("unexpected \(first)")
    }
  }

  private static func constant(_ name: String) -> Expression? {
    switch name {
    case "true", "True": .bool(true)
    case "false", "False": .bool(false)
    case "none", "None": Expression.none
    default: nil
    }
  }

  private mutating func bracketed() throws -> Expression {
    if token.isSymbol(")") {
      next()
      return .list([])
    }
    let inner = try tuple()
    try symbol(")")
    return inner
  }

  private mutating func items<T>(_ end: String, _ read: (inout Parser) throws -> T) throws -> [T] {
    var items: [T] = []
    while !token.isSymbol(end) {
      if !items.isEmpty { try symbol(",") }
      if !token.isSymbol(end) { items.append(try read(&self)) }
    }
    next()
    return items
  }

  private mutating func postfix(_ operand: Expression) throws -> Expression {
    var value = operand
    while true {
      if token.isSymbol(".") {
        next()
        let name = next()
        value = Int(name.text).map { .item(value, .int($0)) } ?? .attribute(value, name.text)
      } else if token.isSymbol("[") {
        value = try subscripted(value)
      } else if token.isSymbol("(") {
        value = .call(value, try given())
      } else {
        return value
      }
    }
  }

  private mutating func subscripted(_ value: Expression) throws -> Expression {
    next()
    let start = token.isSymbol(":") ? nil : try tuple()
    if token.isSymbol("]"), let start {
      next()
      return .item(value, start)
    }
    try symbol(":")
    let stop = token.isSymbol(":") || token.isSymbol("]") ? nil : try expression()
    var step: Expression?
    if token.isSymbol(":") {
      next()
      step = token.isSymbol("]") ? nil : try expression()
    }
    try symbol("]")
    return .slice(value, start, stop, step)
  }

  private mutating func given() throws -> Given {
    next()
    var found = Given()
    _ = try items(")") { parser in
      if parser.token.kind == .name, parser.following.isSymbol("=") {
        let name = parser.next().text
        parser.next()
        found.named.append((name, try parser.expression()))
      } else {
        found.ordered.append(try parser.expression())
      }
    }
    return found
  }

  private mutating func filtersAndTests(_ operand: Expression) throws -> Expression {
    var value = operand
    while true {
      if token.isSymbol("|") {
        next()
        let name = try expect(.name).text
        value = .filter(value, name, token.isSymbol("(") ? try given() : Given())
      } else if token.isName("is") {
        value = try test(value)
      } else if token.isSymbol("(") {
        value = .call(value, try given())
      } else {
        return value
      }
    }
  }

  private mutating func test(_ value: Expression) throws -> Expression {
    next()
    let negated = token.isName("not")
    if negated { next() }
    let name = try expect(.name).text
    var arguments = Given()
    if token.isSymbol("(") {
      arguments = try given()
    } else if beginsOperand {
      let operand = try primary()
      arguments.ordered = [try postfix(operand)]
    }
    let made = Expression.test(value, name, arguments)
    return negated ? .unary("not", made) : made
  }

  private var beginsOperand: Bool {
    switch token.kind {
    case .name: !Parser.notOperands.contains(token.text)
    case .string, .integer, .float: true
    default: token.isSymbol("[") || token.isSymbol("{")
    }
  }

  @discardableResult
  private mutating func next() -> Token {
    defer { at = min(at + 1, tokens.count - 1) }
    return tokens[at]
  }

  @discardableResult
  private mutating func expect(_ kind: Token.Kind) throws -> Token {
    guard token.kind == kind else { throw TemplateError("unexpected \(token)") }
    return next()
  }

  private mutating func symbol(_ symbol: String) throws {
    guard token.isSymbol(symbol) else { throw TemplateError("'\(symbol)' is missing before \(token)") }
    next()
  }

  private mutating func nested<T>(_ read: (inout Parser) throws -> T) throws -> T {
    depth += 1
    guard depth <= Parser.deepest else { throw TemplateError("nested too deep") }
    defer { depth -= 1 }
    return try read(&self)
  }
}
