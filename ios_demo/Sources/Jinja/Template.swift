/// A template that is malformed, or that refuses what it is given.
public struct TemplateError: Error, Equatable, Sendable {
  public let message: String

  init(_ message: String) { self.message = message }
}

/// A chat template, in the part of Jinja that released templates are written in.
public struct Template: Sendable {
  private let statements: [Statement]

  /// Throws TemplateError for what is not a template, or uses what this reader does not know.
  public init(_ source: String) throws {
    var parser = Parser(try Lexer.tokens(source))
    statements = try parser.template()
  }

  /// Throws TemplateError if the template refuses the variables, or does not end.
  public func render(_ variables: Mapping) throws -> String {
    try Renderer().render(statements, variables)
  }
}
