import Foundation
import Jinja
import Testing

@testable import EdgeCore

/// JSON as a template's values: objects in their order, integers of any size.
private struct Reader {
  let raw: [UInt8]
  var at = 0

  init(_ raw: some Sequence<UInt8>) { self.raw = Array(raw) }

  mutating func value() throws -> Value {
    skip()
    switch raw[at] {
    case UInt8(ascii: "{"): return .map(Mapping(try all("}") { reader in (try reader.text(), try reader.value()) }))
    case UInt8(ascii: "["): return .list(try all("]") { try $0.value() })
    case UInt8(ascii: "\""): return .string(try text())
    default: return try word()
    }
  }

  private mutating func skip() {
    while [0x20, 0x3a, 0x2c].contains(raw[at]) { at += 1 }  // blanks, colons, commas: the file is sound
  }

  private mutating func all<T>(_ end: Unicode.Scalar, _ read: (inout Reader) throws -> T) throws -> [T] {
    at += 1
    var found: [T] = []
    skip()
    while raw[at] != UInt8(ascii: end) {
      found.append(try read(&self))
      skip()
    }
    at += 1
    return found
  }

  private mutating func text() throws -> String {
    skip()
    let start = at
    at += 1
    while raw[at] != UInt8(ascii: "\"") { at += raw[at] == UInt8(ascii: "\\") ? 2 : 1 }
    at += 1
    return try JSONDecoder().decode(String.self, from: Data(raw[start..<at]))
  }

  private mutating func word() throws -> Value {
    let start = at
    while at < raw.count, !"]},".utf8.contains(raw[at]) { at += 1 }
    let word = String(decoding: raw[start..<at], as: UTF8.self)
    switch word {
    case "null": return Value.none
    case "true": return .bool(true)
    case "false": return .bool(false)
    default:
      return try Int(word).map(Value.int)
        ?? (word.contains { ".eE".contains($0) } ? .double(#require(Double(word))) : .big(word))
    }
  }
}

@Test func templatesRenderAsInPython() throws {
  let raw = try Data(contentsOf: GoldenSet.folder.appendingPathComponent("templates.jsonl"))
  let lines = raw.split(separator: UInt8(ascii: "\n"))
  #expect(lines.count > 60)
  for line in lines {
    var reader = Reader(line)
    guard case .map(let entry) = try reader.value(), case .string(let name)? = entry["name"],
      case .string(let source)? = entry["source"], case .map(let variables)? = entry["variables"]
    else {
      Issue.record("not an entry")
      continue
    }
    if case .string(let text)? = entry["text"] {
      let found = Result { try Template(source).render(variables) }
      #expect(throws: Never.self, "\(name)") { try found.get() }
      #expect((try? found.get()) == text, "\(name)")
    } else {
      #expect(throws: TemplateError.self, "\(name)") { try Template(source).render(variables) }
    }
  }
}

@Test func hostileTemplatesEnd() {
  for source in [
    "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "{{ 'a' * 100000000 }}", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ " + String(repeating: "(", count: 100_000),
    "{% set x = 'a' * 10000000 %}{{ x }}{{ x }}{{ x }}",
  ] {
    #expect(throws: TemplateError.self) { try Template(source).render(Mapping()) }
  }
}
