#!/bin/sh
# Build what lets a JVM run a .pte by the libraries of Python's executorch package, and print its path; nothing where
# there is no C++ compiler or no jni.h.  `executorch_library.sh BIN`, BIN with python in it.
set -eu
cd "$(dirname "$0")/../.."
bin=$1
out=$PWD/build/android/libedge_executorch.so
shim=ios_demo/Sources/CExecuTorch # the applications share it
jni=android_demo/engine-executorch/src/test/cpp/program_jni.cpp
java=$(java -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java.home = //p')
if ! command -v g++ >/dev/null || [ ! -f "$java/include/jni.h" ]; then
    exit 0
fi
package=$("$bin/python" -c 'import importlib.util
print(importlib.util.find_spec("executorch").submodule_search_locations[0])')
mkdir -p "$(dirname "$out")"
for source in "$jni" "$shim/edge_executorch.cpp" "$shim/include/edge_executorch.h" "android_demo/ci/executorch_library.sh"; do
    if [ ! "$out" -nt "$source" ]; then
        g++ -shared -fPIC -std=c++17 -O2 -w -DC10_USING_CUSTOM_GENERATED_MACROS \
            -I"$shim/include" -I"$java/include" -I"$java/include/linux" \
            -I"$package/include" -I"$package/include/executorch/runtime/core/portable_type/c10" \
            "$jni" "$shim/edge_executorch.cpp" -o "$out" \
            -L"$package/lib" -Wl,-rpath,"$package/lib" -Wl,--no-as-needed -lexecutorch -lexecutorch_kernels_optimized \
            -lexecutorch_kernels_quantized -lexecutorch_backend_xnnpack -lexecutorch_threadpool
        break
    fi
done
echo "$out"
