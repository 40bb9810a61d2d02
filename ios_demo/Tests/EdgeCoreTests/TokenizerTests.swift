import Foundation
import Testing

@testable import EdgeCore

private struct Line: Decodable {
  let bytes: String
  let ids: [Int]
  let decoded: String
}

private struct Streamed: Decodable {
  let ids: [Int]
  let texts: [String]
}

@Test func tenThousandLinesBecomeTheSameIdsAndTextAgain() throws {
  let tokenizer = try Tokenizer(GoldenSet.bundle())
  let lines = try GoldenSet.lines("lines.jsonl", Line.self)
  #expect(lines.count == 10_000)
  var wrong: [String] = []
  for line in lines {
    let text = String(decoding: Data(base64Encoded: line.bytes) ?? Data(), as: UTF8.self)
    let ids = try tokenizer.encode(text, bos: false)
    let decoded = tokenizer.decode(line.ids)
    if ids != line.ids || !decoded.unicodeScalars.elementsEqual(line.decoded.unicodeScalars) {
      wrong.append(line.bytes)
    }
  }
  #expect(wrong == [])
}

@Test func aStreamAddsWhatPythonsAdds() throws {
  let tokenizer = try Tokenizer(GoldenSet.bundle())
  for one in try GoldenSet.lines("streams.jsonl", Streamed.self) {
    var stream = TextStream(tokenizer)
    #expect(one.ids.map { stream.push($0) } == one.texts)
  }
}

@Test func theStartTokenComesOnce() throws {
  let tokenizer = try Tokenizer(GoldenSet.bundle())
  let ids = try tokenizer.encode("Oslo", bos: true)
  #expect(ids.first == tokenizer.bos)
  #expect(try tokenizer.encode("<bos>Oslo", bos: true) == ids)
}
