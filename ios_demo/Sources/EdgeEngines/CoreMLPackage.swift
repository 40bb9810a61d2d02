import EdgeCore
import Foundation

/// The package of a bundle's Core ML artifact: a folder that ends in `.mlpackage`.
public enum CoreMLPackage {
  /// Throws GemmaError if the bundle has no Core ML artifact, or its program is in no package.
  public static func of(_ bundle: EdgeCore.Bundle) throws -> URL {
    let program = try bundle.path(bundle.artifact("coreml").file)
    var place = program
    while place.path.count > bundle.folder.path.count {
      if place.pathExtension == "mlpackage" { return place }
      place.deleteLastPathComponent()
    }
    throw GemmaError("\(program.path): in no .mlpackage", "export the bundle again")
  }
}
