import EdgeCore
import Foundation

/// Fetches a bundle, a file at a time, in a session of the system that lives on when the app is away.
///
/// A file that was fetched is hashed before the next begins; one that was interrupted goes on where it ended, if the
/// server can.
final class BundleDownload: NSObject, URLSessionDownloadDelegate, @unchecked Sendable {
  private static let identifier = "gemma-edge.bundle"
  private let progress: @Sendable (Double) -> Void
  private let lock = NSLock()
  private var waiting: CheckedContinuation<Void, any Error>?  // under the lock, like all below
  private var place: URL?
  private var failure: (any Error)?
  private var before = 0
  private var all = 1
  private lazy var session: URLSession = {
    let configuration = URLSessionConfiguration.background(withIdentifier: BundleDownload.identifier)
    configuration.isDiscretionary = false
    configuration.sessionSendsLaunchEvents = true
    return URLSession(configuration: configuration, delegate: self, delegateQueue: nil)
  }()

  init(progress: @escaping @Sendable (Double) -> Void) { self.progress = progress }

  /// `address` is the web folder that holds bundle.json.
  ///
  /// Throws GemmaError if it is no bundle or a file differs, and what the network throws.
  func run(from address: URL, to folder: URL) async throws {
    defer { session.finishTasksAndInvalidate() }
    let incoming = try IncomingBundle(
      folder, manifest: await small(address, "bundle.json"), seal: await small(address, "bundle.sha256"))
    let missing = try incoming.missing()
    lock.withLock {
      all = incoming.bytes
      before = incoming.bytes - missing.reduce(0) { $0 + $1.size }
    }
    for file in missing {
      try Task.checkCancellation()
      try await fetch(address.appending(path: file.name), to: incoming.place(file.name))
      try incoming.accept(file.name)
      lock.withLock { before += file.size }
    }
    _ = try incoming.finish()
  }

  func cancel() { session.getAllTasks { tasks in tasks.forEach { $0.cancel() } } }

  /// Manifest and seal: a few kilobytes, not worth the background.
  private func small(_ address: URL, _ name: String) async throws -> Data {
    let (data, response) = try await URLSession.shared.data(from: address.appending(path: name))
    guard (response as? HTTPURLResponse)?.statusCode == 200 else {
      throw GemmaError("\(address.absoluteString) has no \(name)", "give the address of a bundle's folder")
    }
    return data
  }

  private func fetch(_ address: URL, to place: URL) async throws {
    try await withCheckedThrowingContinuation { continuation in
      lock.withLock { (waiting, self.place, failure) = (continuation, place, nil) }
      let kept = resumeData(place)
      let task = kept.map { session.downloadTask(withResumeData: $0) } ?? session.downloadTask(with: address)
      task.resume()
    }
  }

  /// What the system wrote down of an interrupted file.
  private func resumeData(_ place: URL) -> Data? {
    let note = BundleDownload.note(place)
    defer { try? FileManager.default.removeItem(at: note) }
    return try? Data(contentsOf: note)
  }

  private static func note(_ place: URL) -> URL { place.appendingPathExtension("resume") }

  // ---- what the system tells, on a queue of its own ----

  func urlSession(_: URLSession, downloadTask task: URLSessionDownloadTask, didFinishDownloadingTo file: URL) {
    lock.withLock {
      guard let place else { return }
      do {
        guard (task.response as? HTTPURLResponse).map({ 200..<300 ~= $0.statusCode }) ?? false else {
          throw GemmaError("\(place.lastPathComponent): the server does not have it", "give another address")
        }
        if FileManager.default.fileExists(atPath: place.path) { try FileManager.default.removeItem(at: place) }
        try FileManager.default.moveItem(at: file, to: place)
      } catch {
        failure = error
      }
    }
  }

  func urlSession(
    _: URLSession, downloadTask: URLSessionDownloadTask, didWriteData: Int64, totalBytesWritten written: Int64,
    totalBytesExpectedToWrite: Int64
  ) {
    progress(lock.withLock { Double(before + Int(written)) / Double(max(all, 1)) })
  }

  func urlSession(_: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
    let (continuation, place, failure) = lock.withLock {
      defer { waiting = nil }
      return (waiting, self.place, self.failure)
    }
    if let error, let place, let kept = (error as NSError).userInfo[NSURLSessionDownloadTaskResumeData] as? Data {
      try? kept.write(to: BundleDownload.note(place))
    }
    if let found = failure ?? error {
      let cancelled = (found as? URLError)?.code == .cancelled
      continuation?.resume(throwing: cancelled ? CancellationError() : found)
    } else {
      continuation?.resume()
    }
  }
}
