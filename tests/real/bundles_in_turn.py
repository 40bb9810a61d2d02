"""Two bundles beside each other in one process, a step of each in turn: a difference that neighbours do not hide.

    python tests/real/bundles_in_turn.py BUNDLE OTHER --threads 2

Each step's time over that of the other bundle's step beside it, and likewise of prompts; medians, and a line of JSON.
Where a machine is shared, separate runs of the same bundle differ by 15 %, and the median of such pairs by 2.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from runtime.bundle.bundle import Bundle
from runtime.engine.onnx import OnnxEngine
from runtime.engine.piece import Piece


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def prompt(decoder: OnnxEngine, ids: np.ndarray) -> float:
    decoder.reset()
    return seconds(lambda: decoder.prefill(ids))


def step(decoder: OnnxEngine, token: np.ndarray) -> float:
    return seconds(lambda: decoder.forward(Piece(token)))


def in_turn(decoders: list[OnnxEngine], ids: np.ndarray, prompts: int, steps: int) -> dict[str, np.ndarray]:
    """Seconds (n, 2) of prompts and of steps."""
    return {
        "prefill": np.array([[prompt(engine, ids) for engine in decoders] for _ in range(prompts)]),
        "decode": np.array([[step(engine, ids[at : at + 1]) for engine in decoders] for at in range(steps)]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Two bundles in turn, in one process.")
    parser.add_argument("bundles", metavar="BUNDLE", type=Path, nargs=2)
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--prompt-tokens", type=int, default=512, metavar="N", help="default: %(default)s")
    parser.add_argument("--prompts", type=int, default=8, metavar="N", help="prompts of each (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="steps of each (default: %(default)s)")
    args = parser.parse_args()
    decoders = [OnnxEngine.open(Bundle.open(folder), args.threads) for folder in args.bundles]
    vocabulary = min(engine.model.vocab_size for engine in decoders)
    ids = np.random.default_rng(0).integers(3, vocabulary, max(args.prompt_tokens, args.steps))
    figures = {}
    print(f"{'median':10}{'first':>14}{'second':>14}{'second / first':>16}")
    for kind, times in in_turn(decoders, ids[: args.prompt_tokens], args.prompts, args.steps).items():
        tokens = args.prompt_tokens if kind == "prefill" else 1
        rates, ratio = tokens / np.median(times, 0), float(np.median(times[:, 0] / times[:, 1]))
        figures[f"{kind}_tok_s"], figures[f"{kind}_ratio"] = rates.tolist(), ratio
        print(f"{kind:10}{rates[0]:10.1f} t/s{rates[1]:10.1f} t/s{ratio:16.3f}")
    print(json.dumps({"bundles": [engine.name for engine in args.bundles], "threads": args.threads} | figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
