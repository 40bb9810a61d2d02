#if canImport(CoreML)
  import CoreML
  import EdgeCore
  import Foundation

  /// The artifact in Core ML: token ids in, logits out; keys and values are Core ML's own state.
  public final class CoreMLEngine: EdgeCore.Engine {
    private static let few = 4  // tokens that are read one by one: a call of many costs more

    public let model: Model
    public private(set) var position = 0
    public var chunk: Int { feeds.tokens }
    public var context: Int { feeds.context }
    private let feeds: CoreMLFeeds
    private let head: Head?
    private let functions: [String: MLModel]
    private var state: MLState

    /// `compiled` is what `CompiledModel` made of the bundle's package; both functions share its weights.
    ///
    /// Throws GemmaError if the bundle has no Core ML artifact, or Core ML does not load it.
    public init(_ bundle: EdgeCore.Bundle, compiled: URL, units: ComputeUnits = .all) throws {
      model = bundle.manifest.model
      feeds = try CoreMLFeeds(bundle)
      head = feeds.head()
      var loaded: [String: MLModel] = [:]
      for name in [CoreMLFeeds.prefill, CoreMLFeeds.decode] {
        let configuration = MLModelConfiguration()
        configuration.functionName = name
        configuration.computeUnits = units.coreML
        loaded[name] = try CoreMLEngine.told(bundle) {
          try MLModel(contentsOf: compiled, configuration: configuration)
        }
      }
      functions = loaded
      state = loaded[CoreMLFeeds.decode]!.makeState()
    }

    /// Core ML ends no call early; one takes a part of a second.
    public var cancel: @Sendable () -> Void { {} }

    public func resume() {}

    public func reset() throws {
      position = 0
      state = functions[CoreMLFeeds.decode]!.makeState()
    }

    public func prefetch(_ ids: [Int]) { feeds.prefetch(ids) }

    public func forward(_ ids: [Int]) throws -> Step {
      try checkRoom(ids.count)
      var (start, last): (Int, Step?) = (0, nil)
      while start < ids.count {
        let many = ids.count - start > CoreMLEngine.few && feeds.fits(at: position)
        let count = many ? min(chunk, ids.count - start) : 1
        last = try call(many ? CoreMLFeeds.prefill : CoreMLFeeds.decode, Array(ids[start..<start + count]))
        start += count
      }
      guard var step = last else { throw GemmaError("a call without tokens", "give at least one") }
      try head?.rescore(&step.logits, step.hidden)
      return step
    }

    private func call(_ function: String, _ ids: [Int]) throws -> Step {
      let inputs = try feeds.call(function, ids, at: position).mapValues(CoreMLEngine.multiArray)
      let found = try CoreMLEngine.told(nil) {
        try functions[function]!.prediction(from: MLDictionaryFeatureProvider(dictionary: inputs), using: state)
      }
      position += ids.count
      return Step(logits: try floats(found, CoreMLFeeds.logits), hidden: try floats(found, CoreMLFeeds.hidden))
    }

    private func floats(_ found: any MLFeatureProvider, _ name: String) throws -> [Float] {
      guard let array = found.featureValue(for: name)?.multiArrayValue, array.dataType == .float32 else {
        throw GemmaError("Core ML answers without \(name)", "export the bundle again")
      }
      return array.withUnsafeBufferPointer(ofType: Float.self) { Array($0) }
    }

    /// The same memory; the array lives as long as Core ML holds it.
    private static func multiArray(_ array: HostArray) throws -> MLMultiArray {
      let strides = array.shape.indices.map { array.shape[($0 + 1)...].reduce(1, *) as NSNumber }
      return try MLMultiArray(
        dataPointer: array.bytes, shape: array.shape.map { $0 as NSNumber },
        dataType: array.dtype == .int32 ? .int32 : .float32, strides: strides,
        deallocator: { _ in withExtendedLifetime(array) {} })
    }

    // ---- going back ----

    /// The windows of sliding layers; full layers' rows in use are never written again.
    public func save() throws -> Mark {
      var kept: [String: [UInt8]] = [:]
      for name in moving {
        state.withMultiArray(for: name) { array in array.withUnsafeBytes { kept[name] = Array($0) } }
      }
      return Mark(position: position, kept: kept)
    }

    public func restore(_ mark: Mark) throws {
      guard let kept = mark.kept as? [String: [UInt8]] else {
        throw GemmaError("a mark of another engine", "restore what this engine saved")
      }
      for (name, bytes) in kept {
        state.withMultiArray(for: name) { array in
          array.withUnsafeMutableBytes { target, _ in target.copyBytes(from: bytes) }
        }
      }
      position = mark.position
    }

    public func rewind(to position: Int) -> Bool {
      guard feeds.canRewind(to: position, from: self.position) else { return false }
      let back = self.position - position
      for name in moving {
        state.withMultiArray(for: name) { array in
          let shape = array.shape.map(\.intValue)
          array.withUnsafeMutableBytes { bytes, strides in
            StateRows.moveDown(bytes.baseAddress!, shape: shape, strides: strides, by: back)
          }
        }
      }
      self.position = position
      return true
    }

    private var moving: [String] { feeds.rows[.sliding] == nil ? [] : CoreMLFeeds.moving }

    /// Core ML's errors as ours.
    private static func told<T>(_ bundle: EdgeCore.Bundle?, _ work: () throws -> T) throws -> T {
      do {
        return try work()
      } catch let error as GemmaError {
        throw error
      } catch {
        let place = bundle.map { "\($0.folder.path): " } ?? ""
        throw GemmaError(
          "\(place)Core ML: \(error.localizedDescription)", "try other compute units, or export it again")
      }
    }
  }

  extension ComputeUnits {
    var coreML: MLComputeUnits {
      switch self {
      case .all: .all
      case .cpu: .cpuOnly
      case .gpu: .cpuAndGPU
      case .neuralEngine: .cpuAndNeuralEngine
      }
    }
  }

  /// A package compiled for this device, once for a bundle.
  public enum CompiledModel {
    /// The folder that Core ML made below `caches`; it is made if it is not there.
    ///
    /// Throws GemmaError if the bundle has no Core ML artifact, and what Core ML or the file system throws.
    public static func of(_ bundle: EdgeCore.Bundle, caches: URL) async throws -> URL {
      let place = caches.appendingPathComponent("\(try bundle.key()).mlmodelc")
      if FileManager.default.fileExists(atPath: place.path) { return place }
      let made = try await MLModel.compileModel(at: CoreMLPackage.of(bundle))
      try FileManager.default.createDirectory(at: caches, withIntermediateDirectories: true)
      try FileManager.default.moveItem(at: made, to: place)
      return place
    }
  }
#endif
