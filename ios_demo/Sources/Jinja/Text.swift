import Foundation

extension Value {
  /// As Python's str.
  func text() throws -> String {
    switch self {
    case .string(let text): text
    case .undefined: ""
    default: try representation()
    }
  }

  /// As Python's repr.
  func representation() throws -> String {
    switch self {
    case .none: "None"
    case .undefined: "Undefined"
    case .bool(let value): value ? "True" : "False"
    case .int(let value): String(value)
    case .big(let digits): digits
    case .double(let value): floatText(value)
    case .string(let text): quoted(text)
    case .list(let values): "[\(try values.map { try $0.representation() }.joined(separator: ", "))]"
    case .map(let values):
      "{\(try values.pairs.map { "\(quoted($0)): \(try $1.representation())" }.joined(separator: ", "))}"
    case .namespace, .callable: throw TemplateError("\(typeName) has no text")
    }
  }

  /// JSON that escapes neither HTML nor letters; `indent` below 0: on one line.
  func json(indent: Int, depth: Int = 0) throws -> String {
    switch self {
    case .none: return "null"
    case .bool(let value): return value ? "true" : "false"
    case .string(let text): return jsonText(text)
    case .int, .big, .double: return try representation()
    case .list(let values):
      return jsonAll(try values.map { try $0.json(indent: indent, depth: depth + 1) }, "[", "]", indent, depth)
    case .map(let values):
      let parts = try values.pairs.map { "\(jsonText($0)): \(try $1.json(indent: indent, depth: depth + 1))" }
      return jsonAll(parts, "{", "}", indent, depth)
    default: throw TemplateError("\(typeName) has no JSON")
    }
  }
}

private func jsonAll(_ parts: [String], _ open: String, _ close: String, _ indent: Int, _ depth: Int) -> String {
  if parts.isEmpty { return open + close }
  if indent < 0 { return open + parts.joined(separator: ", ") + close }
  func line(_ depth: Int) -> String { "\n" + String(repeating: " ", count: indent * depth) }
  return open + line(depth + 1) + parts.joined(separator: "," + line(depth + 1)) + line(depth) + close
}

private func jsonText(_ text: String) -> String {
  var made = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"", "\\": made += "\\\(scalar)"
    case "\n": made += "\\n"
    case "\r": made += "\\r"
    case "\t": made += "\\t"
    case "\u{8}": made += "\\b"
    case "\u{c}": made += "\\f"
    case ..<" ": made += String(format: "\\u%04x", scalar.value)
    default: made.unicodeScalars.append(scalar)
    }
  }
  return made + "\""
}

private func quoted(_ text: String) -> String {
  let quote: Unicode.Scalar = text.contains("'") && !text.contains("\"") ? "\"" : "'"
  var made = String(quote)
  for scalar in text.unicodeScalars {
    switch scalar {
    case quote, "\\": made += "\\\(scalar)"
    case "\n": made += "\\n"
    case "\r": made += "\\r"
    case "\t": made += "\\t"
    case ..<" ", "\u{7f}"..."\u{a0}", "\u{ad}": made += String(format: "\\x%02x", scalar.value)
    default: made.unicodeScalars.append(scalar)
    }
  }
  return made + String(quote)
}

/// The fewest digits that give the number back, in Python's form.
func floatText(_ value: Double) -> String {
  if value.isNaN { return "nan" }
  if value.isInfinite { return value > 0 ? "inf" : "-inf" }
  let exponent = value == 0 ? 0 : Int(log10(abs(value)).rounded(.down))
  if exponent < -5 || exponent > 14 {  // near the bounds the form is decided by the digits
    let digits = (0...16).map { String(format: "%.\($0)e", value) }.first { Double($0) == value } ?? "\(value)"
    let parts = digits.split(separator: "e")
    if parts.count == 2, let power = Int(parts[1]), power < -4 || power >= 16 {
      return "\(parts[0])e\(power < 0 ? "-" : "+")\(abs(power) < 10 ? "0" : "")\(abs(power))"
    }
    let plain = String(format: "%.1f", value)
    return Double(plain) == value ? plain : "\(value)"
  }
  let shown = "\(value)"
  guard shown.contains("e") else { return shown }
  let places = (1...20).first { Double(String(format: "%.\($0)f", value)) == value } ?? 20
  return String(format: "%.\(places)f", value)
}

func stripped(_ text: String, _ characters: Value?, left: Bool = true, right: Bool = true) throws -> String {
  let strips: (Unicode.Scalar) -> Bool
  if let characters, case .string(let set) = characters {
    strips = { set.unicodeScalars.contains($0) }
  } else {
    strips = isBlank
  }
  var scalars = text.unicodeScalars[...]
  if left { scalars = scalars.drop(while: strips) }
  while right, let last = scalars.last, strips(last) { scalars.removeLast() }
  return String(String.UnicodeScalarView(scalars))
}

func isBlank(_ scalar: Unicode.Scalar) -> Bool {
  scalar.properties.isWhitespace || ("\u{1c}"..."\u{1f}").contains(scalar)
}

func capitalized(_ text: String) -> String { text.prefix(1).uppercased() + text.dropFirst().lowercased() }

/// Every run of letters with a capital first.
func titled(_ text: String) -> String {
  var (made, word) = ("", "")
  for character in text {
    if character.isLetter {
      word.append(character)
    } else {
      made += capitalized(word) + String(character)
      word = ""
    }
  }
  return made + capitalized(word)
}

func replaced(_ text: String, _ old: String, _ new: String) -> String {
  text.replacingOccurrences(of: old, with: new, options: .literal)
}

/// As Python's split: at a separator, or at blanks.
func split(_ text: String, _ separator: Value, _ most: Int) throws -> [String] {
  if case .none = separator {
    let parts = text.unicodeScalars.split(whereSeparator: isBlank)
    guard most < 0 || parts.count <= most + 1 else {
      let rest = text.unicodeScalars[parts[most].startIndex...]
      return parts[..<most].map { String($0) } + [try stripped(String(rest), nil, left: false)]
    }
    return parts.map { String($0) }
  }
  let at = try separator.string()
  if at.isEmpty { throw TemplateError("an empty separator") }
  var (parts, rest): ([String], Substring) = ([], text[...])
  while most < 0 || parts.count < most, let found = rest.range(of: at, options: .literal) {
    parts.append(String(rest[..<found.lowerBound]))
    rest = rest[found.upperBound...]
  }
  return parts + [String(rest)]
}
