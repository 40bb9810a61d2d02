#!/bin/sh
# What the applications' tests repeat, in build/golden: `golden_sets.sh BIN`, BIN with python and gemma-edge in it.
# Sampled answers are compared of float weights: where activations are rounded to int8, the last bit of a cosine can
# change a token.
set -eu
cd "$(dirname "$0")/../.."
bin=$1
golden=build/golden
mkdir -p "$golden"

bundle() { # NAME TARGET RECIPE
    "$bin/gemma-edge" export tests/sample/checkpoint --to "$2" --recipe "$3" --calibrate none \
        -o "$golden/$1.bundle" --force >"$golden/$1.log" 2>&1 || { cat "$golden/$1.log" >&2; exit 1; }
}
runtime() { # NAME, of the ONNX artifact at a recipe
    bundle "$1" onnx "$1"
    "$bin/python" tests/mobile/write_golden.py "$golden/$1.bundle" "$golden/$1"
}

# Two at a time: each is mostly one thread.
(
    bundle coreml coreml int4
    "$bin/python" tests/mobile/write_coreml.py "$golden/coreml.bundle" "$golden/coreml" 2>/dev/null
    runtime float
) &
half=$!
"$bin/python" tests/mobile/write_executorch.py "$golden/executorch" 2>/dev/null
runtime int4
wait $half
