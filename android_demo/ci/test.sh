#!/bin/sh
# The JVM's part of `make test`, on what tests/mobile/golden_sets.sh wrote.  `test.sh BIN`, BIN with python in it.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=$(cd "$1" && pwd)
golden=$root/build/golden
cd "$root"
if ! command -v mvn >/dev/null; then
    echo "android: NOT TESTED, Maven is not installed"
    exit 0
fi
if ! mvn -q -B -N -f android_demo/ci org.apache.maven.plugins:maven-dependency-plugin:3.8.1:get \
    -Dartifact=junit:junit:4.13.2 -Dtransitive=false >/dev/null 2>&1 </dev/null; then
    echo "android: NOT TESTED, Maven Central does not answer"
    exit 0
fi
executorch=$(sh android_demo/ci/executorch_library.sh "$bin")
mvn -q -B -f android_demo/ci test "-Dgemma.golden=$golden" "-Dgemma.executorch=$executorch" </dev/null
[ -n "$executorch" ] || echo "android: the .pte was NOT RUN, there is no C++ compiler or no jni.h"
echo "android: tested, screenshots are in android_demo/ci/app/target/screenshots"
