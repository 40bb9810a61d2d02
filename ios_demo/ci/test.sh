#!/usr/bin/env bash
# Build the package and run its tests, in a Debian root that has Swift, on what tests/mobile/golden_sets.sh wrote.
# Usage: test.sh BIN, the folder of the environment's python and gemma-edge.
# Where the root can not be built it says so in one line, and nothing is tested.
set -euo pipefail

cd "$(dirname "$0")/../.."
bin=$1
status=0
root=$(ios_demo/ci/swift_root.sh) || status=$?
[ "$status" != 3 ] || exit 0
[ "$status" = 0 ] || exit "$status"

golden=build/golden
executorch=$("$bin/python" -c 'import importlib.util
print(importlib.util.find_spec("executorch").submodule_search_locations[0])')
library=$("$bin/python" -c 'import glob, os, onnxruntime
print(glob.glob(os.path.join(os.path.dirname(onnxruntime.__file__), "capi", "libonnxruntime.so*"))[0])')
export EDGE_BINDS="$PWD/$golden:/golden $(dirname "$library"):/onnxruntime $executorch:/executorch"
inside() { ios_demo/ci/in_swift_root.sh "$root" "$@"; }
inside /usr/libexec/swift/bin/swift-format lint --strict -r Sources Tests App Package.swift ci/declarations
# Optimized: without it the hashes alone take minutes.  Swift 6.0's Observation on Linux names a function that is
# nowhere, which the linker is told to let pass.
inside env EDGE_GOLDEN=/golden/int4 EDGE_GOLDEN_FLOAT=/golden/float EDGE_GOLDEN_COREML=/golden/coreml \
  EDGE_EXECUTORCH=/executorch EDGE_GOLDEN_EXECUTORCH=/golden/executorch \
  EDGE_ONNXRUNTIME="/onnxruntime/$(basename "$library")" \
  swift test -Xswiftc -O -Xswiftc -warnings-as-errors -Xlinker --allow-shlib-undefined --enable-index-store \
  --disable-xctest --no-parallel
home=$(mktemp -d -p "$root/tmp")
answer=$(inside env HOME="/tmp/$(basename "$home")" EDGE_ONNXRUNTIME="/onnxruntime/$(basename "$library")" \
  .build/debug/edge-cli run /golden/float/bundle "What is the capital of Norway?" --temperature 0)
left=$(find "$home" -type f)
rm -rf "$home"
[ -z "$left" ] || { echo "edge-cli run leaves in the home folder: $left" >&2 && exit 1; }
case $answer in *Oslo*) ;; *) echo "edge-cli run answers: $answer" >&2 && exit 1 ;; esac
inside ci/type_check.sh
