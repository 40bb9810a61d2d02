import EdgeChat
import EdgeEngines
import SwiftUI
import UniformTypeIdentifiers

/// The model page: what there is, what it takes, and whether it fits.
struct ModelView: View {
  @Bindable var store: BundleStore
  @State private var isPicking = false
  @State private var address = ""

  var body: some View {
    Form {
      if let facts = store.facts { factsSection(facts) }
      if let problem = store.problem {
        Section { Label(problem, systemImage: "exclamationmark.triangle") }
      }
      switch store.state {
      case .coming(let name, let share):
        Section(name) {
          ProgressView(value: share)
          Button("Stop", role: .cancel) { store.stopComing() }
        }
      case .loading:
        Section { ProgressView("Loading; the first time Core ML compiles, which takes minutes") }
      case .empty, .ready:
        getSection
      }
    }
    .navigationTitle("Model")
    .fileImporter(isPresented: $isPicking, allowedContentTypes: [.folder]) { result in
      if case .success(let folder) = result { store.importBundle(from: folder) }
    }
  }

  private func factsSection(_ facts: ModelFacts) -> some View {
    Section(facts.name) {
      LabeledContent("Recipe", value: facts.recipe)
      LabeledContent("On flash", value: megabytes(facts.diskBytes))
      LabeledContent("Of it rows, read one by one", value: megabytes(facts.rowBytes))
      LabeledContent("Memory for \(facts.context) tokens", value: megabytes(facts.peakBytes))
      if let refusal = facts.refusal {
        Text(refusal).foregroundStyle(.red)
      } else {
        Picker("Compute on", selection: $store.units) {
          ForEach(ComputeUnits.allCases, id: \.self) { Text($0.label).tag($0) }
        }
        Button("Load") { store.load() }
      }
      Button("Remove", role: .destructive) { store.remove() }
    }
  }

  private var getSection: some View {
    Section("Get a bundle") {
      Button("Choose a folder") { isPicking = true }
      TextField("https://… of a bundle's folder", text: $address)
      Button("Download") {
        if let found = URL(string: address) { store.downloadBundle(from: found) }
      }
      .disabled(!address.hasPrefix("https://"))
    }
  }

  private func megabytes(_ bytes: Int) -> String { "\(bytes / 1_000_000) MB" }
}

extension ComputeUnits {
  var label: String {
    switch self {
    case .all: "All"
    case .cpu: "CPU"
    case .gpu: "CPU and GPU"
    case .neuralEngine: "CPU and Neural Engine"
    }
  }
}
