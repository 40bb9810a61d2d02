import Foundation

/// The two-stage head: all logits from a small table, the best of them again from a finer one.
public struct Head {
  let table: RowTable
  let count: Int
  let softcap: Float

  /// The second stage of the head, if the bundle has one.
  public init?(_ model: Model, _ table: RowTable) {
    guard model.rescored > 0 else { return nil }
    (self.table, count, softcap) = (table, model.rescored, Float(model.softcap))
  }

  /// In place: logits (vocab) after the softcap, which keeps their order; hidden (hidden) after the final norm.
  public func rescore(_ logits: inout [Float], _ hidden: [Float]) throws {
    for id in best(logits, count) {
      let exact = try hidden.withUnsafeBufferPointer { try table.product(id, $0.baseAddress!) }
      logits[id] = softcap > 0 ? tanh(exact / softcap) * softcap : exact
    }
  }
}
