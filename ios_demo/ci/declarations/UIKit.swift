// What the app uses of UIKit, declared for type-checking where there is none.
import Foundation

@MainActor public class UIApplication {
  public nonisolated static let didReceiveMemoryWarningNotification = Notification.Name("memory")
}
