#!/bin/sh
# What the applications' tests repeat, in build/golden: `golden_sets.sh BIN`, BIN with python and gemma-edge in it.
# Sampled answers are compared of float weights: where activations are rounded to int8, the last bit of a cosine can
# change a token.
set -eu
cd "$(dirname "$0")/../.."
bin=$1
golden=build/golden
mkdir -p "$golden"

quiet() { # NAME COMMAND: says what it said if it fails
    log=$golden/$1.log
    shift
    "$@" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
}
bundle() { # NAME TARGET RECIPE
    quiet "$1" "$bin/gemma-edge" export tests/sample/checkpoint --to "$2" --recipe "$3" --calibrate none \
        -o "$golden/$1.bundle" --force
}
runtime() { # NAME, of the ONNX artifact at a recipe
    bundle "$1" onnx "$1"
    quiet "$1" "$bin/python" tests/mobile/write_golden.py "$golden/$1.bundle" "$golden/$1"
}

# Two at a time: each is mostly one thread.
(
    bundle coreml coreml int4
    quiet coreml "$bin/python" tests/mobile/write_coreml.py "$golden/coreml.bundle" "$golden/coreml"
    runtime float
) &
half=$!
quiet executorch "$bin/python" tests/mobile/write_executorch.py "$golden/executorch"
runtime int4
wait $half
