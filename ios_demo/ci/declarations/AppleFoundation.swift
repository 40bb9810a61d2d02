// What Apple's Foundation has beyond the one of Linux, as far as the app uses it.
@_exported import FoundationNetworking
import Foundation

public let NSURLSessionDownloadTaskResumeData = "NSURLSessionDownloadTaskResumeData"

extension URL {
  public static var documentsDirectory: URL { fatalError() }
  public static var cachesDirectory: URL { fatalError() }
  public func startAccessingSecurityScopedResource() -> Bool { fatalError() }
  public func stopAccessingSecurityScopedResource() {}
}

extension NotificationCenter {
  public func notifications(named: Notification.Name) -> AsyncStream<Notification> { fatalError() }
}

extension URLSessionConfiguration {
  public class func background(withIdentifier: String) -> URLSessionConfiguration { fatalError() }
  public var isDiscretionary: Bool {
    get { fatalError() }
    set {}
  }
  public var sessionSendsLaunchEvents: Bool {
    get { fatalError() }
    set {}
  }
}
