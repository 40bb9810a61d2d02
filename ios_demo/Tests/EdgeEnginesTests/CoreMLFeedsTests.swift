import EdgeCore
import Foundation
import Testing

@testable import EdgeEngines

/// What `tests/mobile/write_coreml.py` read of the saved package.
private struct Feature: Decodable, Equatable {
  let dtype: String
  let shape: [Int]
}

private struct Function: Decodable {
  let inputs: [String: Feature]
  let outputs: [String: Feature]
  let states: [String: Feature]
}

private struct Call: Decodable {
  let position: Int
  let tokens: Int
  let masks: [String: String]
  let numbers: [String: Int]

  var function: String { tokens == 1 ? CoreMLFeeds.decode : CoreMLFeeds.prefill }
  var ids: [Int] { Array(5..<5 + tokens) }
}

private func bundle() throws -> EdgeCore.Bundle { try Bundle(GoldenSet.coreML.appendingPathComponent("bundle")) }

private func package() throws -> [String: Function] {
  let raw = try Data(contentsOf: GoldenSet.coreML.appendingPathComponent("package.json"))
  return try JSONDecoder().decode([String: Function].self, from: raw)
}

@Test func callsAreFedWhatThePackageAsksFor() throws {
  let (feeds, functions) = (try CoreMLFeeds(bundle()), try package())
  #expect(Set(functions.keys) == [CoreMLFeeds.prefill, CoreMLFeeds.decode])
  for (name, function) in functions {
    let ids = name == CoreMLFeeds.decode ? [5] : [5, 6, 7]
    let fed = try feeds.call(name, ids, at: 40).mapValues { Feature(dtype: $0.dtype.rawValue, shape: $0.shape) }
    let asked =
      name == CoreMLFeeds.decode ? function.inputs.filter { !["kept", "tokens"].contains($0.key) } : function.inputs
    #expect(fed == asked, "\(name)")
  }
}

@Test func outputsAndStatesAreThoseOfThePackage() throws {
  let (bundle, functions) = (try bundle(), try package())
  let model = bundle.manifest.model
  let states = try bundle.artifact("coreml").states
  for function in functions.values {
    #expect(
      function.outputs == [
        CoreMLFeeds.logits: Feature(dtype: "float32", shape: [1, 1, model.vocabSize]),
        CoreMLFeeds.hidden: Feature(dtype: "float32", shape: [1, 1, model.hiddenSize]),
      ])
    let described = states.map { ($0.name, Feature(dtype: $0.dtype.rawValue, shape: $0.shape.compactMap { $0 })) }
    #expect(function.states == Dictionary(uniqueKeysWithValues: described))
    #expect(Set(CoreMLFeeds.moving).isSubset(of: function.states.keys))
  }
}

@Test func masksAndNumbersAreThoseOfTheExporter() throws {
  let feeds = try CoreMLFeeds(bundle())
  let raw = try Data(contentsOf: GoldenSet.coreML.appendingPathComponent("calls.jsonl"))
  let calls = try raw.split(separator: UInt8(ascii: "\n")).map { try JSONDecoder().decode(Call.self, from: $0) }
  #expect(calls.count > 5)
  for call in calls {
    let fed = try feeds.call(call.function, call.ids, at: call.position)
    let masks = fed.filter { $0.key.hasSuffix("_mask") }.mapValues { array in
      SHA256.hex(Data(bytes: array.bytes, count: array.byteCount))
    }
    #expect(masks == call.masks, "at \(call.position)")
    let numbers = fed.filter { $0.value.dtype == .int32 }.mapValues { Int($0.bytes.load(as: Int32.self)) }
    #expect(numbers == call.numbers, "at \(call.position)")
  }
}

@Test func theWindowComesBackAsFarAsItIsHeld() throws {
  let feeds = try CoreMLFeeds(bundle())
  let held = try #require(feeds.rows[.sliding])
  let window = try bundle().manifest.model.window
  #expect(feeds.canRewind(to: 10, from: held))
  #expect(feeds.canRewind(to: 500, from: 500 + held - window + 1))
  #expect(!feeds.canRewind(to: 500, from: 500 + held - window + 2))
}

@Test func rowsOfAStateMoveWithinEveryHead() {
  // Two layers of one head, four rows of two values, a row's stride of three.
  var values = (0..<24).map(UInt16.init)
  values.withUnsafeMutableBytes {
    StateRows.moveDown($0.baseAddress!, shape: [2, 1, 4, 2], strides: [12, 12, 3, 1], by: 1)
  }
  #expect(values[3...4] == [0, 1] && values[9...10] == [6, 7])
  #expect(values[15...16] == [12, 13] && values[21...22] == [18, 19])
  #expect(values[0...1] == [0, 1])
}

@Test func thePackageIsFoundAroundTheProgram() throws {
  let found = try CoreMLPackage.of(bundle())
  #expect(found.lastPathComponent == "decoder.mlpackage")
  #expect(throws: GemmaError.self) { try CoreMLPackage.of(GoldenSet.bundle()) }
}
