#!/bin/sh
# The JVM's part of `make test`: bundles and golden sets of the sample, then Maven.  `test.sh BIN`, BIN with python in it.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=$(cd "$1" && pwd)
golden=$root/build/mobile
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
mkdir -p "$golden"
write() {
    "$bin/gemma-edge" export tests/sample/checkpoint --to onnx --recipe "$1" --calibrate none -o "$golden/$1.bundle" --force >/dev/null 2>&1
    "$bin/python" tests/mobile/write_golden.py "$golden/$1.bundle" "$golden/$1"
}
write float &
float=$!
write int4
wait $float
mvn -q -B -f android_demo/ci test "-Dgemma.golden=$golden" </dev/null
echo "android: tested, screenshots are in android_demo/ci/app/target/screenshots"
