/// Cuts a template into text and the tokens of its tags, with trim_blocks and lstrip_blocks.
struct Lexer {
  private static let symbols = [
    "**", "//", "==", "!=", ">=", "<=", "-", "+", "*", "/", "%", "~", "[", "]", "(", ")", "{", "}", "=", "<", ">", ".",
    ":", "|", ",",
  ].map { Array($0.unicodeScalars) }

  private let text: [Unicode.Scalar]
  private var tokens: [Token] = []
  private var at = 0
  private var lineStarts = true  // what came before ended with a line break

  static func tokens(_ source: String) throws -> [Token] {
    var lexer = Lexer(source)
    return try lexer.run()
  }

  private init(_ source: String) {
    var (made, before): ([Unicode.Scalar], Unicode.Scalar) = ([], " ")
    for scalar in source.unicodeScalars {
      if scalar != "\n" || before != "\r" { made.append(scalar == "\r" ? "\n" : scalar) }
      before = scalar
    }
    if made.last == "\n" { made.removeLast() }
    text = made
  }

  private mutating func run() throws -> [Token] {
    while at < text.count {
      guard let begin = nextTag() else {
        add(.text, text[at...])
        break
      }
      let (kind, sign) = (text[begin + 1], scalar(begin + 2))
      addText(before: begin, kind, sign)
      at = begin + (sign == "-" || sign == "+" ? 3 : 2)
      switch kind {
      case "#": try comment()
      case "{": try tag("}}", .printBegin, .printEnd)
      default: if try !raw() { try tag("%}", .blockBegin, .blockEnd) }
      }
    }
    tokens.append(Token(kind: .end, text: ""))
    return tokens
  }

  private func scalar(_ place: Int) -> Unicode.Scalar { place < text.count ? text[place] : " " }

  private func starts(_ word: String, _ place: Int) -> Bool {
    place <= text.count && text[place...].starts(with: word.unicodeScalars)
  }

  private mutating func add(_ kind: Token.Kind, _ part: ArraySlice<Unicode.Scalar>) {
    if kind != .text || !part.isEmpty { tokens.append(Token(kind: kind, text: string(part))) }
  }

  private func string(_ part: ArraySlice<Unicode.Scalar>) -> String { String(String.UnicodeScalarView(part)) }

  private func nextTag() -> Int? {
    (at..<text.count).first { text[$0] == "{" && ["{", "%", "#"].contains(scalar($0 + 1)) }
  }

  private mutating func addText(before begin: Int, _ kind: Unicode.Scalar, _ sign: Unicode.Scalar) {
    var part = text[at..<begin]
    if sign == "-" {
      while let last = part.last, isBlank(last) { part.removeLast() }
    } else if sign != "+", kind != "{" {
      part = lstripped(part)
    }
    add(.text, part)
  }

  /// Blanks between the start of a line and a block go away.
  private func lstripped(_ before: ArraySlice<Unicode.Scalar>) -> ArraySlice<Unicode.Scalar> {
    let lineBreak = before.lastIndex(of: "\n")
    let line = lineBreak.map { $0 + 1 } ?? before.startIndex
    let strips = (lineBreak != nil || lineStarts) && before[line...].allSatisfy(isBlank)
    return strips ? before[..<line] : before
  }

  /// Behind the end of a tag at a place: what a sign asks for, or one line break.
  private mutating func close(_ end: Int, trims: Bool) {
    let sign = end > 0 ? text[end - 1] : " "
    at = end + 2
    let begun = at
    if sign == "-" {
      while at < text.count, isBlank(text[at]) { at += 1 }
    } else if trims, sign != "+", scalar(at) == "\n" {
      at += 1
    }
    lineStarts = at > begun && text[at - 1] == "\n"
  }

  private mutating func comment() throws {
    guard let end = (at..<text.count).first(where: { starts("#}", $0) }) else {
      throw TemplateError("a comment has no end")
    }
    close(end, trims: true)
  }

  /// A raw block, if here is one.
  private mutating func raw() throws -> Bool {
    guard let begin = tagEnd("raw", from: at) else { return false }
    for place in begin..<text.count where starts("{%", place) {
      let inner = "-+".unicodeScalars.contains(scalar(place + 2)) ? place + 3 : place + 2
      guard let end = tagEnd("endraw", from: inner) else { continue }
      add(.text, text[begin..<place])
      close(end - 2, trims: true)
      return true
    }
    throw TemplateError("raw has no end")
  }

  /// Behind a tag of one word, if it is that.
  private func tagEnd(_ word: String, from start: Int) -> Int? {
    var place = start
    func skipBlanks() { while place < text.count, isBlank(text[place]) { place += 1 } }
    skipBlanks()
    guard starts(word, place) else { return nil }
    place += word.unicodeScalars.count
    skipBlanks()
    if scalar(place) == "-" || scalar(place) == "+" { place += 1 }
    return starts("%}", place) ? place + 2 : nil
  }

  private mutating func tag(_ end: String, _ begins: Token.Kind, _ ends: Token.Kind) throws {
    tokens.append(Token(kind: begins, text: begins == .printBegin ? "{{" : "{%"))
    var depth = 0
    while true {
      while at < text.count, isBlank(text[at]) { at += 1 }
      guard at < text.count else { throw TemplateError("a tag has no end") }
      let signed = (text[at] == "-" || text[at] == "+") && starts(end, at + 1)
      if depth == 0, signed || starts(end, at) {
        tokens.append(Token(kind: ends, text: end))
        close(signed ? at + 1 : at, trims: ends == .blockEnd)
        return
      }
      let token = try token()
      if token.kind == .symbol, ["(", "[", "{"].contains(token.text) { depth += 1 }
      if token.kind == .symbol, [")", "]", "}"].contains(token.text) { depth -= 1 }
      tokens.append(token)
    }
  }

  private mutating func token() throws -> Token {
    let first = text[at]
    if first == "_" || first.properties.isAlphabetic {
      return take(.name) { $0 == "_" || $0.properties.isAlphabetic || $0.properties.numericType != nil }
    }
    if ("0"..."9").contains(first) { return number() }
    if first == "'" || first == "\"" { return try quoted(first) }
    guard let symbol = Lexer.symbols.first(where: { text[at...].starts(with: $0) }) else {
      throw TemplateError("unexpected character '\(first)'")
    }
    at += symbol.count
    return Token(kind: .symbol, text: string(symbol[...]))
  }

  private mutating func take(_ kind: Token.Kind, while wanted: (Unicode.Scalar) -> Bool) -> Token {
    let end = text[at...].firstIndex { !wanted($0) } ?? text.count
    defer { at = end }
    return Token(kind: kind, text: string(text[at..<end]))
  }

  private mutating func number() -> Token {
    func digits(_ place: Int) -> Int {
      text[min(place, text.count)...].firstIndex { !("0"..."9").contains($0) } ?? text.count
    }
    var (end, kind) = (digits(at), Token.Kind.integer)
    if scalar(end) == ".", digits(end + 1) > end + 1 { (end, kind) = (digits(end + 1), .float) }
    if scalar(end) == "e" || scalar(end) == "E" {
      let power = scalar(end + 1) == "-" || scalar(end + 1) == "+" ? end + 2 : end + 1
      if digits(power) > power { (end, kind) = (digits(power), .float) }
    }
    defer { at = end }
    return Token(kind: kind, text: string(text[at..<end]))
  }

  private mutating func quoted(_ quote: Unicode.Scalar) throws -> Token {
    var made = String.UnicodeScalarView()
    var place = at + 1
    while place < text.count, text[place] != quote {
      guard text[place] == "\\" else {
        made.append(text[place])
        place += 1
        continue
      }
      place = unescape(place + 1, &made)
    }
    guard place < text.count else { throw TemplateError("a text has no end") }
    at = place + 1
    return Token(kind: .string, text: String(made))
  }

  /// What stands behind a backslash at a place; the place behind it.
  private func unescape(_ place: Int, _ made: inout String.UnicodeScalarView) -> Int {
    let escapes: [Unicode.Scalar: Unicode.Scalar] = ["n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", "\"": "\""]
    let letter = scalar(place)
    if let plain = escapes[letter] {
      made.append(plain)
    } else if letter == "u" || letter == "x" {
      let count = letter == "u" ? 4 : 2
      let end = min(place + 1 + count, text.count)
      if let code = UInt32(string(text[place + 1..<end]), radix: 16), let named = Unicode.Scalar(code) {
        made.append(named)
        return end
      }
      made.append(contentsOf: ["\\", letter])
    } else if letter != "\n" {
      made.append(contentsOf: ["\\", letter])
    }
    return place + 1
  }
}
