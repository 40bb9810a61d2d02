/// What Core ML may compute on.
public enum ComputeUnits: String, Sendable, CaseIterable {
  case all, cpu, gpu, neuralEngine
}
