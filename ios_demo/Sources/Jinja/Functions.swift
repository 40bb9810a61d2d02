import Foundation

private let longestRange = 100_000

/// The functions that every template may call.
var functions: Mapping {
  Mapping([
    ("range", .callable(Callable(range))),
    ("namespace", .callable(Callable { .namespace(Namespace($0.named)) })),
    ("dict", .callable(Callable { .map($0.named) })),
    ("raise_exception", .callable(Callable { throw TemplateError(try ($0.at(0, "message") ?? .string("")).text()) })),
    ("strftime_now", .callable(Callable { .string(try strftime($0.text(0, "format"))) })),
  ])
}

private func range(_ given: Arguments) throws -> Value {
  let bounds = given.ordered.compactMap(\.integer)
  guard bounds.count == given.ordered.count, (1...3).contains(bounds.count) else {
    throw TemplateError("a range of what are no integers")
  }
  let (start, stop) = bounds.count == 1 ? (0, bounds[0]) : (bounds[0], bounds[1])
  let step = bounds.count == 3 ? bounds[2] : 1
  guard step != 0, [start, stop, step].allSatisfy({ $0.magnitude < 1 << 40 }) else {
    throw TemplateError("a range from \(start) to \(stop) by \(step)")
  }
  let count = max(0, (stop - start + step - step.signum()) / step)
  guard count <= longestRange else { throw TemplateError("a range of \(count) numbers") }
  return .list((0..<count).map { .int(start + $0 * step) })
}

private func strftime(_ format: String) throws -> String {
  var now = time(nil)
  var parts = tm()
  localtime_r(&now, &parts)
  var made = [CChar](repeating: 0, count: 4 * format.utf8.count + 256)
  let count = formatted(&made, made.count, format, &parts)
  guard count > 0 || format.isEmpty else { throw TemplateError("a date of the form '\(format)'") }
  return String(decoding: made[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

private func formatted(_ out: inout [CChar], _ size: Int, _ format: String, _ parts: inout tm) -> Int {
  Foundation.strftime(&out, size, format, &parts)
}
