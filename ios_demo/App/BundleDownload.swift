import EdgeCore
import Foundation

/// Fetches a bundle, a file at a time, in a session of the system that lives on when the app is away.
///
/// One is made when the app starts: files that came while it was not there are put in their places then.  A file that
/// was interrupted goes on where it ended, if the server can; each is hashed before the next begins.
final class BundleDownload: NSObject, URLSessionDownloadDelegate, @unchecked Sendable {
  private static let identifier = "gemma-edge.bundle"

  /// What the running `run` waits for.
  private struct Waiting {
    let place: URL
    let continuation: CheckedContinuation<Void, any Error>
    var failure: (any Error)?
  }

  private let lock = NSLock()
  private var waiting: Waiting?  // under the lock, like all below
  private var before = 0
  private var all = 1
  private var progress: @Sendable (Double) -> Void = { _ in }
  private var session: URLSession!

  override init() {
    super.init()
    let configuration = URLSessionConfiguration.background(withIdentifier: BundleDownload.identifier)
    configuration.isDiscretionary = false
    configuration.sessionSendsLaunchEvents = true
    session = URLSession(configuration: configuration, delegate: self, delegateQueue: nil)
  }

  /// `address` is the web folder that holds bundle.json; `progress` gets the share that is there.
  ///
  /// Throws GemmaError if it is no bundle or a file differs, CancellationError after `cancel`, and what the network
  /// throws.
  func run(from address: URL, to folder: URL, progress: @escaping @Sendable (Double) -> Void) async throws {
    let incoming = try IncomingBundle(
      folder, manifest: await small(address, "bundle.json"), seal: await small(address, "bundle.sha256"))
    let missing = try incoming.missing()
    lock.withLock {
      self.progress = progress
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

  /// What has come stays, and a later `run` goes on.
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
    let note = BundleDownload.note(place)
    let task: URLSessionDownloadTask
    if FileManager.default.fileExists(atPath: note.path) {
      task = session.downloadTask(withResumeData: try Data(contentsOf: note))
      try FileManager.default.removeItem(at: note)
    } else {
      task = session.downloadTask(with: address)
    }
    task.taskDescription = place.path  // the system keeps it, also when the app has ended
    try await withCheckedThrowingContinuation { continuation in
      lock.withLock { waiting = Waiting(place: place, continuation: continuation) }
      task.resume()
    }
  }

  /// Where the system's notes on an interrupted file are kept.
  private static func note(_ place: URL) -> URL { place.appendingPathExtension("resume") }

  // ---- what the system tells, on a queue of its own ----

  func urlSession(_: URLSession, downloadTask task: URLSessionDownloadTask, didFinishDownloadingTo file: URL) {
    guard let path = task.taskDescription else { return }
    do {
      try BundleDownload.put(file, URL(fileURLWithPath: path), task.response)
    } catch {
      lock.withLock { waiting?.failure = error }
    }
  }

  private static func put(_ file: URL, _ place: URL, _ response: URLResponse?) throws {
    guard let status = (response as? HTTPURLResponse)?.statusCode, 200..<300 ~= status else {
      throw GemmaError("\(place.lastPathComponent): the server does not have it", "give another address")
    }
    if FileManager.default.fileExists(atPath: place.path) { try FileManager.default.removeItem(at: place) }
    try FileManager.default.moveItem(at: file, to: place)
  }

  func urlSession(
    _: URLSession, downloadTask: URLSessionDownloadTask, didWriteData: Int64, totalBytesWritten written: Int64,
    totalBytesExpectedToWrite: Int64
  ) {
    let (tell, share) = lock.withLock { (progress, Double(before + Int(written)) / Double(max(all, 1))) }
    tell(share)
  }

  func urlSession(_: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
    var found = error
    if let error, let path = task.taskDescription,
      let kept = (error as NSError).userInfo[NSURLSessionDownloadTaskResumeData] as? Data
    {
      do {
        try kept.write(to: BundleDownload.note(URL(fileURLWithPath: path)))
      } catch let unwritten {
        found = unwritten
      }
    }
    end(found)
  }

  private func end(_ error: (any Error)?) {
    let ended = lock.withLock {
      defer { waiting = nil }
      return waiting
    }
    switch ended?.failure ?? error {
    case nil: ended?.continuation.resume()
    case let found? where (found as? URLError)?.code == .cancelled:
      ended?.continuation.resume(throwing: CancellationError())
    case let found?: ended?.continuation.resume(throwing: found)
    }
  }
}
