#!/usr/bin/env bash
# Type-check the sources that need Apple's frameworks, in Swift 6 mode, against ci/declarations.
# In ios_demo, after `swift build`.  It proves that the sources agree with our reading of Apple's documentation.
set -euo pipefail

modules=.build/declarations
built=$(swift build --show-bin-path)
strict="-swift-version 6 -strict-concurrency=complete -warnings-as-errors -parse-as-library"
rm -rf "$modules"
mkdir -p "$modules"
for name in UniformTypeIdentifiers UIKit os CoreML AppleFoundation SwiftUI; do
  swiftc -swift-version 6 -parse-as-library -emit-module -module-name $name -I "$modules" \
    -o "$modules/$name.swiftmodule" ci/declarations/$name.swift
done
swiftc $strict -emit-module -module-name EdgeEngines -I "$modules" -I "$built/Modules" \
  -Xcc -fmodule-map-file="$built/COnnxruntime.build/module.modulemap" -o "$modules/EdgeEngines.swiftmodule" Sources/EdgeEngines/*.swift
swiftc $strict -typecheck -I "$modules" -I "$built/Modules" -Xcc -fmodule-map-file="$built/COnnxruntime.build/module.modulemap" \
  -Xfrontend -import-module -Xfrontend AppleFoundation App/*.swift
echo "type-checked: $(ls App/*.swift | wc -l) files of the app, and the Core ML engine"
