import Foundation

/// A file read from the front, piece by piece, so that a large one costs little memory.
final class FileReader {
  private let handle: FileHandle
  private let path: String

  /// Throws GemmaError if the file can not be opened.
  init(_ file: URL) throws {
    path = file.path
    do {
      handle = try FileHandle(forReadingFrom: file)
    } catch {
      throw GemmaError("\(path): can not be read: \(error.localizedDescription)", Bundle.fetchAgain)
    }
  }

  /// Up to `count` bytes; nil at the end.
  func next(_ count: Int) throws -> Data? {
    do {
      let piece = try handle.read(upToCount: count)
      return piece?.isEmpty == true ? nil : piece
    } catch {
      throw GemmaError("\(path): can not be read: \(error.localizedDescription)", Bundle.fetchAgain)
    }
  }

  deinit { try? handle.close() }

  /// A whole file.  Throws GemmaError if it can not be read.
  static func all(_ file: URL) throws -> Data {
    do {
      return try Data(contentsOf: file)
    } catch {
      throw GemmaError("\(file.path): can not be read: \(error.localizedDescription)", Bundle.fetchAgain)
    }
  }
}
