import Foundation

/// cos and sin (rows, headDim / 2) float32 of position × frequency, computed in float32.
///
/// frequency[j] = theta^(-2 j / headDim) for the rotated pairs, zero for the others.
public final class RotaryTable {
  public private(set) var cos: HostArray
  public private(set) var sin: HostArray
  private let frequencies: [Float]

  public init(_ rope: Rope) throws {
    let pairs = rope.headDim / 2
    frequencies = (0..<pairs).map { pair in
      pair < rope.rotatedPairs ? Float(pow(rope.theta, -2 * Double(pair) / Double(rope.headDim))) : 0
    }
    (cos, sin) = (try HostArray(.float32, [0, pairs]), try HostArray(.float32, [0, pairs]))
  }

  public var rows: Int { cos.shape[0] }
  public var pairs: Int { frequencies.count }

  /// Rows for the positions below `count`, and some more.
  public func grow(to count: Int) throws {
    guard count > rows else { return }
    let step = KeyValues.step
    let shape = [(count + step - 1) / step * step, pairs]
    (cos, sin) = (try HostArray(.float32, shape), try HostArray(.float32, shape))
    let (cosines, sines) = (RotaryTable.floats(cos), RotaryTable.floats(sin))
    for position in 0..<shape[0] {
      for (pair, frequency) in frequencies.enumerated() {
        let angle = Float(position) * frequency
        cosines[position * pairs + pair] = Foundation.cos(angle)
        sines[position * pairs + pair] = Foundation.sin(angle)
      }
    }
  }

  /// The rows of some positions, (positions, pairs) each; `grow` must have been there.
  public func gather(_ positions: [Int]) -> (cos: [Float], sin: [Float]) {
    (rows(of: cos, positions), rows(of: sin, positions))
  }

  private func rows(of array: HostArray, _ positions: [Int]) -> [Float] {
    positions.flatMap { UnsafeBufferPointer(start: RotaryTable.floats(array) + $0 * pairs, count: pairs) }
  }

  private static func floats(_ array: HostArray) -> UnsafeMutablePointer<Float> {
    array.bytes.assumingMemoryBound(to: Float.self)
  }
}
