import EdgeChat
import EdgeCore
import EdgeEngines
import Foundation
import Observation
import UIKit

/// The one bundle that the app keeps, in Documents, and the session with it.
@MainActor @Observable
final class BundleStore {
  enum State: Equatable {
    case empty
    case coming(name: String, share: Double)
    case ready
    case loading
  }

  nonisolated static let context = 4096  // tokens that are looked at before loading; more are not asked for

  private(set) var state = State.empty
  private(set) var bundle: EdgeCore.Bundle?
  /// What the model page shows.
  private(set) var facts: ModelFacts?
  private(set) var chat: ChatModel?
  private(set) var problem: String?
  var units = ComputeUnits.all
  private let folder = URL.documentsDirectory.appending(path: "model.bundle")
  private var work: Task<Void, Never>?
  private let download = BundleDownload()  // made at the start: it takes what came while the app was away

  init() { open() }

  /// Open what is there: a bundle that was imported, downloaded, or put there with the Files app.
  func open() {
    guard FileManager.default.fileExists(atPath: folder.path) else { return }
    attempt {
      let found = try EdgeCore.Bundle(folder)
      facts = try looked(found)
      (bundle, state) = (found, .ready)
    }
  }

  /// Throws GemmaError for a bundle that Core ML can not run.
  private func looked(_ bundle: EdgeCore.Bundle) throws -> ModelFacts {
    try ModelFacts(bundle, target: "coreml", context: BundleStore.context, available: AvailableMemory.now)
  }

  /// Copy a bundle from a folder that the Files app gave.
  func importBundle(from source: URL) {
    let folder = folder
    begin("Copying") { [weak self] in
      let mine = source.startAccessingSecurityScopedResource()
      defer { if mine { source.stopAccessingSecurityScopedResource() } }
      _ = try BundleImporter.run(from: source, to: folder) { done, all in
        try Task.checkCancellation()
        let share = Double(done) / Double(max(all, 1))
        Task { @MainActor in self?.told("Copying", share) }
      }
    }
  }

  /// Fetch a bundle's files from a web folder; it goes on while the app is away, and after it was ended.
  func downloadBundle(from address: URL) {
    let (folder, download) = (folder, download)
    begin("Downloading") { [weak self] in
      try await download.run(from: address, to: folder) { share in
        Task { @MainActor in self?.told("Downloading", share) }
      }
    }
  }

  /// What has come stays, and is gone on with.
  func stopComing() {
    download.cancel()
    work?.cancel()
  }

  private func begin(_ name: String, _ job: @escaping @Sendable () async throws -> Void) {
    (problem, state) = (nil, .coming(name: name, share: 0))
    work = Task {
      let task = Task.detached(operation: job)
      do {
        try await withTaskCancellationHandler {
          try await task.value
        } onCancel: {
          task.cancel()
        }
      } catch is CancellationError {
        problem = nil
      } catch {
        problem = words(error)
      }
      state = .empty
      open()
    }
  }

  private func told(_ name: String, _ share: Double) {
    if case .coming = state { state = .coming(name: name, share: share) }
  }

  /// Load the model, if it fits.
  func load() {
    guard let bundle else { return }
    attempt { facts = try looked(bundle) }  // the memory that is free has changed
    guard problem == nil, facts?.refusal == nil else { return }
    state = .loading
    let units = units
    work = Task {
      do {
        let compiled = try await CompiledModel.of(bundle, caches: .cachesDirectory)
        let made = Task.detached {
          try Session(bundle, context: BundleStore.context) {
            try CoreMLEngine($0, compiled: compiled, units: units)
          }
        }
        chat = ChatModel(try await made.value)
      } catch {
        problem = words(error)
      }
      state = .ready
    }
  }

  /// Let the model and its memory go.
  func unload() {
    chat?.stop()
    chat = nil
  }

  func remove() {
    unload()
    attempt { try FileManager.default.removeItem(at: folder) }
    (bundle, facts, state) = (nil, nil, .empty)
  }

  /// The system warns before it ends the app: caches go, the conversation stays.
  func followMemoryWarnings() async {
    let warnings = NotificationCenter.default.notifications(named: UIApplication.didReceiveMemoryWarningNotification)
    for await _ in warnings.map({ _ in () }) {
      do {
        try await chat?.releaseMemory()
      } catch {
        problem = words(error)
      }
    }
  }

  private func attempt(_ work: () throws -> Void) {
    do {
      try work()
      problem = nil
    } catch {
      problem = words(error)
    }
  }

  private func words(_ error: any Error) -> String {
    (error as? GemmaError)?.description ?? error.localizedDescription
  }
}
