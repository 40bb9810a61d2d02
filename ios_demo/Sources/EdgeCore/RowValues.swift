/// From the bytes of a row to its values: integers of all layers, then their scales.
extension RowFormat {
  /// The values of some layers of a row, (layers, dim) float32, into `values`.
  func decode(_ row: UnsafeRawPointer, _ layers: Range<Int>, _ multiplier: Float, _ values: UnsafeMutablePointer<Float>)
  {
    for (index, layer) in layers.enumerated() {
      let body = row + layer * layerBytes
      let found = values + index * dim
      switch bits {
      case 32: for at in 0..<dim { found[at] = float32(body, at) * multiplier }
      case 16: for at in 0..<dim { found[at] = bfloat16(body, at) * multiplier }
      default: decodeIntegers(body, row + self.layers * layerBytes + layer * scaleBytes, multiplier, found)
      }
    }
  }

  private func decodeIntegers(
    _ body: UnsafeRawPointer, _ scales: UnsafeRawPointer, _ multiplier: Float, _ found: UnsafeMutablePointer<Float>
  ) {
    for group in 0..<self.scales {
      let scale = scale(scales, group) * multiplier
      for at in min(group * width, dim)..<min((group + 1) * width, dim) {
        found[at] = Float(integer(body, at)) * scale
      }
    }
  }

  /// A row of one layer times a state (dim,); one scale a group goes over the group's sum.
  func product(_ row: UnsafeRawPointer, _ state: UnsafePointer<Float>) -> Float {
    if bits >= 16 {
      var sum: Float = 0
      for at in 0..<dim { sum += (bits == 32 ? float32(row, at) : bfloat16(row, at)) * state[at] }
      return sum
    }
    var sum: Float = 0
    for group in 0..<scales {
      var part: Float = 0
      for at in min(group * width, dim)..<min((group + 1) * width, dim) { part += Float(integer(row, at)) * state[at] }
      sum += part * scale(row + layerBytes, group)
    }
    return sum
  }

  @inline(__always)
  private func integer(_ body: UnsafeRawPointer, _ at: Int) -> Int {
    switch bits {
    case 8: Int(body.load(fromByteOffset: at, as: Int8.self))
    case 4: Int(body.load(fromByteOffset: at >> 1, as: UInt8.self) >> UInt8((at & 1) * 4) & 15) - 8
    default: Int(body.load(fromByteOffset: at >> 2, as: UInt8.self) >> UInt8((at & 3) * 2) & 3) - 2
    }
  }

  @inline(__always)
  private func scale(_ scales: UnsafeRawPointer, _ at: Int) -> Float {
    scaleBits == 16 ? bfloat16(scales, at) : float32(scales, at)
  }

  /// The upper half of a float32.
  @inline(__always)
  private func bfloat16(_ body: UnsafeRawPointer, _ at: Int) -> Float {
    let half = UInt16(littleEndian: body.loadUnaligned(fromByteOffset: 2 * at, as: UInt16.self))
    return Float(bitPattern: UInt32(half) << 16)
  }

  @inline(__always)
  private func float32(_ body: UnsafeRawPointer, _ at: Int) -> Float {
    Float(bitPattern: UInt32(littleEndian: body.loadUnaligned(fromByteOffset: 4 * at, as: UInt32.self)))
  }
}
