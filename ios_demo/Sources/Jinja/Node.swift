indirect enum Expression: Sendable {
  case text(String)
  case int(Int)
  case big(String)
  case double(Double)
  case bool(Bool)
  case none
  case name(String)
  case list([Expression])
  case map([(Expression, Expression)])
  case unary(String, Expression)
  case binary(String, Expression, Expression)
  case comparison(Expression, [(String, Expression)])  // a < b <= c: each with its neighbour
  case conditional(Expression, if: Expression, else: Expression?)
  case attribute(Expression, String)
  case item(Expression, Expression)
  case slice(Expression, Expression?, Expression?, Expression?)
  case call(Expression, Given)
  case filter(Expression, String, Given)
  case test(Expression, String, Given)
}

struct Given: Sendable {
  var ordered: [Expression] = []
  var named: [(String, Expression)] = []
}

indirect enum Statement: Sendable {
  case output(String)
  case print(Expression)
  case block([Statement])  // with names of its own
  case choice([(Expression, [Statement])], else: [Statement])
  case loop(Loop)
  case set([String], attribute: String?, Expression)  // the attribute of a namespace; none: the names themselves
  case capture(String, [Statement])
  case macro(Macro)
  case leave
  case next
}

struct Loop: Sendable {
  let targets: [String]
  let over: Expression
  let filter: Expression?
  let body: [Statement]
  let otherwise: [Statement]
}

struct Macro: Sendable {
  let name: String
  let parameters: [(String, Expression?)]
  let body: [Statement]
}
