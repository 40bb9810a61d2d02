import Foundation

/// An array in memory of its own, at an address that stays: what engines read, and what a graph updates in place.
public final class HostArray {
  public let dtype: DType
  public let shape: [Int]
  public let bytes: UnsafeMutableRawPointer

  /// Zeros.  Throws GemmaError if there is no memory for them.
  public init(_ dtype: DType, _ shape: [Int]) throws {
    let size = shape.reduce(dtype.bytes, *)
    guard let zeros = calloc(max(size, 1), 1) else {
      throw GemmaError("\(size) bytes can not be allocated", "close other apps, or ask for a shorter context")
    }
    (self.dtype, self.shape, bytes) = (dtype, shape, zeros)
  }

  public convenience init(_ values: [Float], _ shape: [Int]) throws { try self.init(.float32, shape, copying: values) }
  public convenience init(_ values: [Int32], _ shape: [Int]) throws { try self.init(.int32, shape, copying: values) }
  public convenience init(_ values: [Int64], _ shape: [Int]) throws { try self.init(.int64, shape, copying: values) }

  private convenience init<T>(_ dtype: DType, _ shape: [Int], copying values: [T]) throws {
    try self.init(dtype, shape)
    precondition(values.count == count && MemoryLayout<T>.size == dtype.bytes)
    values.withUnsafeBytes { bytes.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
  }

  deinit { free(bytes) }

  public var count: Int { shape.reduce(1, *) }
  public var byteCount: Int { count * dtype.bytes }

  /// The values of a float32 array.
  public func floats() -> [Float] {
    Array(UnsafeBufferPointer(start: bytes.assumingMemoryBound(to: Float.self), count: count))
  }
}
