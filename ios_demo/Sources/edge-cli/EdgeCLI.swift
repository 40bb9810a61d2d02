import EdgeCore
import Foundation

/// `edge-cli COMMAND BUNDLE`: a bundle from the command line, on Linux and macOS.
@main
struct EdgeCLI {
  static let usage = """
    usage: edge-cli run BUNDLE [PROMPT] [--raw] [--thinking] [--engine E] [--temperature T] [--top-k K] [--top-p P]
                    [--seed N] [--max-new-tokens N] [--context N] [--threads N]
           edge-cli verify BUNDLE [--engine E] [--threads N]       every hash, then the golden answers
           edge-cli plan BUNDLE [--engine E] [--context N]         peak memory, before anything is loaded
           edge-cli rows BUNDLE TABLE SEED COUNT                   hash of random rows, and the memory they took
    Without PROMPT, standard input is the prompt.  Engines: onnx (its library: EDGE_ONNXRUNTIME), executorch (a build
    with EDGE_EXECUTORCH), coreml (macOS).
    """

  static func main() async {
    do {
      try await run(Array(CommandLine.arguments.dropFirst()))
    } catch let error as GemmaError {
      complain("error: \(error)")
    } catch {
      complain("error: \(error.localizedDescription)")
    }
  }

  private static func run(_ words: [String]) async throws {
    guard let command = words.first else { throw GemmaError("no command", usage) }
    let rest = Array(words.dropFirst())
    switch command {
    case "run": try await RunCommand(Arguments(rest, RunCommand.options)).run()
    case "verify": try await VerifyCommand(Arguments(rest, VerifyCommand.options)).run()
    case "plan": try PlanCommand(Arguments(rest, PlanCommand.options)).run()
    case "rows": try RowsCommand(Arguments(rest, [:])).run()
    case "--help", "-h": print(usage)
    default: throw GemmaError("'\(command)' is not a command", usage)
    }
  }

  private static func complain(_ text: String) -> Never {
    FileHandle.standardError.write(Data("\(text)\n".utf8))
    exit(1)
  }
}
