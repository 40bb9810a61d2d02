import os

/// Memory that this app may still take.
///
/// The entitlement `com.apple.developer.kernel.increased-memory-limit` raises the limit; mapped row files and Core
/// ML's mapped weights do not count against it.
enum AvailableMemory {
  static var now: Int { os_proc_available_memory() }
}
