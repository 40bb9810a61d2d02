// What the sources of this package use of Core ML, declared for type-checking where there is none.  From Apple's
// documentation of iOS 18; nothing here runs, and nothing proves that Apple's own is spelled so.
import Foundation

public final class MLModel {
  public init(contentsOf url: URL, configuration: MLModelConfiguration) throws { fatalError() }
  public static func compileModel(at url: URL) async throws -> URL { fatalError() }
  public func makeState() -> MLState { fatalError() }
  public func prediction(from input: any MLFeatureProvider, using state: MLState) throws -> any MLFeatureProvider {
    fatalError()
  }
}

public final class MLModelConfiguration {
  public init() {}
  public var functionName: String?
  public var computeUnits = MLComputeUnits.all
}

public enum MLComputeUnits: Int, Sendable { case cpuOnly, cpuAndGPU, all, cpuAndNeuralEngine }

public final class MLState {
  init() {}
  public func withMultiArray<R>(for stateName: String, _ body: (MLMultiArray) throws -> R) rethrows -> R {
    fatalError()
  }
}

public protocol MLFeatureProvider { func featureValue(for featureName: String) -> MLFeatureValue? }

public final class MLFeatureValue {
  init() {}
  public var multiArrayValue: MLMultiArray? { fatalError() }
}

public final class MLDictionaryFeatureProvider: MLFeatureProvider {
  public init(dictionary: [String: Any]) throws {}
  public func featureValue(for featureName: String) -> MLFeatureValue? { fatalError() }
}

public enum MLMultiArrayDataType: Int, Sendable { case double, float32, float16, int32 }

public final class MLMultiArray {
  public init(
    dataPointer: UnsafeMutableRawPointer, shape: [NSNumber], dataType: MLMultiArrayDataType, strides: [NSNumber],
    deallocator: ((UnsafeMutableRawPointer) -> Void)?
  ) throws {}
  public var dataType: MLMultiArrayDataType { fatalError() }
  public var shape: [NSNumber] { fatalError() }
  public func withUnsafeBufferPointer<S, R>(ofType: S.Type, _ body: (UnsafeBufferPointer<S>) throws -> R) rethrows -> R
  { fatalError() }
  public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R { fatalError() }
  public func withUnsafeMutableBytes<R>(_ body: (UnsafeMutableRawBufferPointer, [Int]) throws -> R) rethrows -> R {
    fatalError()
  }
}
