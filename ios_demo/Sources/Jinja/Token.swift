struct Token: CustomStringConvertible {
  enum Kind { case text, printBegin, printEnd, blockBegin, blockEnd, name, string, integer, float, symbol, end }

  let kind: Kind
  let text: String

  func isName(_ name: String) -> Bool { kind == .name && text == name }
  func isSymbol(_ symbol: String) -> Bool { kind == .symbol && text == symbol }

  var description: String { kind == .end ? "the end" : "'\(text)'" }
}
