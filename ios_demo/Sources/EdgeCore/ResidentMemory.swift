import Foundation

/// Memory of this process.
public enum ResidentMemory {
  #if canImport(Darwin)
    /// Bytes that count against the process's limit.
    public static var now: Int {
      var info = task_vm_info_data_t()
      var count = mach_msg_type_number_t(MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<natural_t>.size)
      let result = withUnsafeMutablePointer(to: &info) { pointer in
        pointer.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
          task_info(mach_task_self_, task_flavor_t(TASK_VM_INFO), $0, &count)
        }
      }
      return result == KERN_SUCCESS ? Int(info.phys_footprint) : 0
    }
  #else
    /// Bytes in memory, of files as well.
    public static var now: Int {
      guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .ascii) else { return 0 }
      let fields = text.split(separator: " ")
      return fields.count > 1 ? (Int(fields[1]) ?? 0) * Int(getpagesize()) : 0
    }
  #endif
}
