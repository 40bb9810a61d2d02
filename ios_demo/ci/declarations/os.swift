// What the app uses of os, declared for type-checking where there is none.
public func os_proc_available_memory() -> Int { fatalError() }
