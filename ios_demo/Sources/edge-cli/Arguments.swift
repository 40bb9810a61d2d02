import EdgeCore
import Foundation

/// Words of a command line: those with a place, and options by name.
struct Arguments {
  enum Takes { case value, nothing }

  private(set) var words: [String] = []
  private var values: [String: String] = [:]

  /// Throws GemmaError for an option that the command does not know, or one without its value.
  init(_ given: [String], _ options: [String: Takes]) throws {
    var rest = given[...]
    while let word = rest.popFirst() {
      guard word.hasPrefix("--") else {
        words.append(word)
        continue
      }
      guard let takes = options[word] else { throw GemmaError("\(word): not an option here", "see edge-cli --help") }
      if takes == .nothing {
        values[word] = ""
      } else if let value = rest.popFirst() {
        values[word] = value
      } else {
        throw GemmaError("\(word): a value is missing", "see edge-cli --help")
      }
    }
  }

  /// Throws GemmaError unless there are from `least` to `most` words.
  func count(_ least: Int, _ most: Int) throws {
    guard !(least...most).contains(words.count) else { return }
    throw GemmaError("\(words.count) words where \(least) to \(most) are expected", "see edge-cli --help")
  }

  func bundle() throws -> EdgeCore.Bundle { try Bundle(URL(fileURLWithPath: words[0])) }

  func has(_ option: String) -> Bool { values[option] != nil }

  func text(_ option: String) -> String? { values[option] }

  /// A number.  Throws GemmaError for a word that is none.
  func number<T: LosslessStringConvertible>(_ option: String, _ type: T.Type) throws -> T? {
    try values[option].map { try Arguments.number($0, option) }
  }

  static func number<T: LosslessStringConvertible>(_ word: String, _ what: String) throws -> T {
    guard let found = T(word) else { throw GemmaError("\(what) '\(word)': not a number", "see edge-cli --help") }
    return found
  }
}
