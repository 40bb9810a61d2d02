// What the app uses of UniformTypeIdentifiers, declared for type-checking where there is none.
public struct UTType: Sendable { public static let folder = UTType() }
