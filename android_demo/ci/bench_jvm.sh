#!/bin/sh
# Decode rates of Python and of the JVM on one bundle, in turns.  `bench_jvm.sh BIN BUNDLE [THREADS [--plain]]`, BIN with python in it.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=$(cd "$1" && pwd)
bundle=$(cd "$2" && pwd)
list=$root/build/bench_jvm.classpath
mkdir -p "$root/build"
mvn -q -B -f "$root/android_demo/ci" -pl core,engine-ort test-compile \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:build-classpath "-Dmdep.outputFile=$list" </dev/null
threads=${3:-1}
shift 2
[ $# -eq 0 ] || shift
classes=$root/android_demo/ci/engine-ort/target
export ORT_DISABLE_TELEMETRY="${ORT_DISABLE_TELEMETRY-1}" # a JVM can not set it for itself
cd "$root"
PYTHONPATH=$root exec "$bin/python" android_demo/ci/bench_jvm.py "$classes/classes:$classes/test-classes:$(cat "$list")" "$bundle" "$threads" "$@"
