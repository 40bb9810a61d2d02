/// Hides control tokens in the texts of messages while a template renders, so that only what the template itself
/// writes becomes a token: a mark stands for the first character of each.
struct ControlMask: Sendable {
  // Unicode promises that these are never characters.
  private static let marks: [Unicode.Scalar] = (0xFDD0...0xFDEF).compactMap(Unicode.Scalar.init)

  private let control: AddedTokens
  private let marks: [Unicode.Scalar: Unicode.Scalar]  // by the character that they stand for
  private let firsts: [Unicode.Scalar: Unicode.Scalar]

  /// Throws GemmaError if control tokens begin with more different characters than there are marks.
  init(_ control: AddedTokens) throws {
    let (firsts, most) = (control.firsts, ControlMask.marks.count)
    guard firsts.count <= most else {
      throw GemmaError(
        "control tokens begin with \(firsts.count) different characters, \(most) at most can be read",
        "export the bundle again")
    }
    self.control = control
    marks = Dictionary(uniqueKeysWithValues: zip(firsts, ControlMask.marks))
    self.firsts = Dictionary(uniqueKeysWithValues: zip(ControlMask.marks, firsts))
  }

  /// Tokens in `kept` stay; a mark that a text holds already becomes U+FFFD.
  ///
  /// The beginning of a token at the end of a text is hidden too: a template may trim it and write the rest, or another
  /// text, after it.
  func hide(_ text: String, kept: Set<Int> = []) -> String {
    let scalars = Array(text.unicodeScalars)[...]
    let blanks = scalars.reversed().prefix { $0.properties.isWhitespace }.count
    let trimmed = scalars.dropLast(blanks)
    var (hidden, at) = (String.UnicodeScalarView(), 0)
    while at < scalars.count {
      let token = control.token(scalars, at: at)
      if let token, kept.contains(token.id) {
        hidden.append(contentsOf: scalars[at..<at + token.length])
        at += token.length
      } else {
        // Only the first character: another token may begin within this one.
        let mark = token != nil || control.goesOn(trimmed, at: at) ? marks[scalars[at]] : nil
        hidden.append(mark ?? (firsts[scalars[at]] == nil ? scalars[at] : "\u{FFFD}"))
        at += 1
      }
    }
    return String(hidden)
  }

  /// The text with the characters that marks stand for.
  func show(_ scalars: ArraySlice<Unicode.Scalar>) -> ArraySlice<Unicode.Scalar> {
    scalars.map { firsts[$0] ?? $0 }[...]
  }
}
