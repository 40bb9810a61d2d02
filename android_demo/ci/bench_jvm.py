"""Decode rates of the Python runtime and of the JVM on one bundle, in turns; bench_jvm.sh calls it."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
from pathlib import Path

import numpy as np

from runtime.bundle.bundle import Bundle
from runtime.engine.onnx import Decoder
from runtime.measure.bench import Settings, once

ROUNDS, PROMPT, HEAP = 5, 32, "-Xmx256m"
# What the Python runtime does by itself; a JVM can not change its own environment.
AS_PYTHON = {"ORT_GQA_DISABLE_FLASH_ATTENTION": "1"}


def python_step(decoder: Decoder, tokens: int) -> float:
    """Median milliseconds of a step."""
    decoder.reset()
    settings = Settings(decoder.threads, PROMPT, tokens, 0, 1)
    return 1000 * once(decoder, settings, np.random.default_rng(0))[1]


def jvm_step(jvm: subprocess.Popen[str], tokens: int) -> tuple[float, int]:
    """Median milliseconds of a step, and megabytes of heap."""
    assert jvm.stdin
    assert jvm.stdout
    print(tokens, file=jvm.stdin, flush=True)
    line = jvm.stdout.readline()
    if not line:
        raise SystemExit("the JVM ended; what it said is above")
    step, heap = line.split()
    return float(step), int(heap)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("classpath")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("threads", type=int)
    parser.add_argument("--tokens", type=int, default=12, help="a round (default: %(default)s)")
    parser.add_argument("--plain", action="store_true", help="with attention in tiles")
    args = parser.parse_args()
    command = ["java", HEAP, "-cp", args.classpath, "gemmaedge.ort.BenchKt", str(args.bundle), str(args.threads)]
    environment = os.environ if args.plain else {**os.environ, **AS_PYTHON}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as jvm:
        assert jvm.stdout
        print("jvm:", jvm.stdout.readline().strip())
        decoder = Decoder(Bundle.open(args.bundle), args.threads)
        python_step(decoder, args.tokens)
        jvm_step(jvm, args.tokens)  # the first of both warms up
        rounds = [(python_step(decoder, args.tokens), *jvm_step(jvm, args.tokens)) for _ in range(ROUNDS)]
    print("python tok/s   jvm tok/s   heap MB")
    for python, java, heap in rounds:
        print(f"{1000 / python:12.2f}{1000 / java:12.2f}{heap:10d}")
    python, java = (1000 / statistics.median(column) for column in list(zip(*rounds, strict=True))[:2])
    figures = {"python_tok_s": round(python, 2), "jvm_tok_s": round(java, 2), "ratio": round(java / python, 3)}
    print(json.dumps({**figures, "heap_mb": max(heap for *_, heap in rounds), "threads": args.threads}))


if __name__ == "__main__":
    main()
