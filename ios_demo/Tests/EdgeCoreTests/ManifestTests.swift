import Foundation
import Testing

@testable import EdgeCore

/// The manifest of a golden set, of a release that says this of its ranges; nil: nothing, as older exporters.
private func manifest(ranges: Bool?, recipe: String = "as-released", rescored: Int = 0) throws -> Manifest {
  let raw = try Data(contentsOf: GoldenSet.folder.appendingPathComponent("bundle/bundle.json"))
  guard case .object(var fields) = try JSON.parse(raw, "bundle.json"), case .object(var model)? = fields["model"]
  else { throw GemmaError("bundle.json: not of a model", "") }
  model["static_ranges"] = ranges.map { .bool($0) }
  model["rescored"] = .int(rescored)
  fields["model"] = .object(model)
  fields["recipe"] = .object(["name": .string(recipe), "summary": .string("")])
  return try Manifest(Fields(.object(fields), at: "$"))
}

@Test func aBundleSaysWhetherItHasTheRangesOfItsRelease() throws {
  #expect(try manifest(ranges: true).model.staticRanges == true)
  #expect(try !manifest(ranges: true).lostRanges)
  #expect(try !manifest(ranges: false).lostRanges, "a release without ranges lost none")
  #expect(try manifest(ranges: nil).lostRanges, "an older exporter dropped them")
  #expect(try !manifest(ranges: nil, recipe: "int4", rescored: 256).lostRanges, "floats never had some")
}

@Test func aBundleMaySayTheSpecialTokensOfItsTemplate() throws {
  let raw = try Data(contentsOf: GoldenSet.folder.appendingPathComponent("bundle/bundle.json"))
  guard case .object(var fields) = try JSON.parse(raw, "bundle.json") else { throw GemmaError("not an object", "") }
  func read(_ tokens: JSON?) throws -> [String: String] {
    fields["special_tokens"] = tokens
    return try Manifest(Fields(.object(fields), at: "$")).specialTokens
  }
  #expect(try read(nil) == [:], "an older bundle says nothing")
  #expect(try read(.object(["eos_token": .string("<eos>")])) == ["eos_token": "<eos>"])
  #expect(throws: GemmaError("$.special_tokens.eos_token: is not text", Bundle.fetchAgain)) {
    try read(.object(["eos_token": .int(1)]))
  }
}

@Test func aBundleMayHavePartsAndThoseOfALaterVersionAreRead() throws {
  let raw = try Data(contentsOf: GoldenSet.folder.appendingPathComponent("bundle/bundle.json"))
  guard case .object(var fields) = try JSON.parse(raw, "bundle.json") else { throw GemmaError("not an object", "") }
  #expect(try Manifest(Fields(.object(fields), at: "$")).parts == [:], "a bundle of 1.0 has none")
  let part = """
    {"kind": "later", "settings": {"on": true, "size": -3, "scale": 0.5, "name": "x", "sizes": [70, 0.5]}, "news": {},
    "artifacts": {"npu": {"file": "a", "data": "", "inputs": [], "outputs": [], "operators": {}, "news": 1}},
    "functions": {"onnx": [{"name": "draft", "inputs": [], "outputs": [], "news": 1}]}, "golden": "golden/x.json"}
    """
  fields["parts"] = .object(["later": try JSON.parse(Data(part.utf8), "part")])
  let manifest = try Manifest(Fields(.object(fields), at: "$"))
  let read = try #require(manifest.parts["later"])
  #expect(read.kind == "later" && read.functions["onnx"]?.map(\.name) == ["draft"])
  #expect(
    read.settings == [
      "on": .bool(true), "size": .int(-3), "scale": .double(0.5), "name": .text("x"), "sizes": .numbers([70, 0.5]),
    ])
  #expect(manifest.used.isSuperset(of: ["a", "golden/x.json"]))
}
