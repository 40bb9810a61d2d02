"""llama.cpp on weights of the same shape, beside gemma-edge: rates and peak memory.

    python tests/real/peer_llama_cpp.py BUNDLE... MODEL.gguf --llama-bench FILE [-- FLAGS OF llama-bench]

One process of each after the other, several rounds, so that all meet the same machine; medians.  For each
bundle a table and a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of the system's peak memory
FIGURES = {
    "decode_tok_s": "decode, tokens/s",
    "prefill_tok_s": "prefill, tokens/s",
    "peak_rss_bytes": "peak memory, MB",
}


def finished(command: list[str | Path]) -> tuple[str, int]:
    """What a command prints, and its peak memory in bytes.  Exits with the command's own words if it fails."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            sys.exit(f"error: {' '.join(map(str, command))}\n{err.read()}")
        return out.read(), usage.ru_maxrss * UNIT


def ours(args: argparse.Namespace, bundle: Path, threads: int) -> dict[str, float]:
    command: list[str | Path] = [Path(sys.executable).with_name("gemma-edge"), "bench", bundle, "--json", "--repeat=1"]
    settings = {"threads": threads, "prompt-tokens": max(1, args.prompt_tokens), "new-tokens": args.new_tokens}
    options = [f"--{name}={value}" for name, value in (settings | {"context": args.context}).items()]
    printed, _ = finished([*command, *options])
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    return found


def theirs(args: argparse.Namespace, threads: int) -> dict[str, float]:
    options = ["-p", args.prompt_tokens, "-n", args.new_tokens, "-d", args.context, "-t", threads, "-r", 1]
    printed, peak = finished([args.llama_bench, "-m", args.model, *map(str, options), "-o", "json", *args.flags])
    rates = {"prefill_tok_s" if one["n_prompt"] else "decode_tok_s": one["avg_ts"] for one in json.loads(printed)}
    return {**rates, "peak_rss_bytes": peak}


def in_turn(args: argparse.Namespace, threads: int) -> list[dict[str, float]]:
    """Of each bundle, and of llama.cpp last."""
    sides = [*(ours(args, bundle, threads) for bundle in args.bundles), theirs(args, threads)]
    told = (f"{FIGURES[one]} {' / '.join(f'{side[one]:.4g}' for side in sides)}" for one in FIGURES if one in sides[-1])
    print(", ".join(told), file=sys.stderr, flush=True)
    return sides


def main() -> int:
    parser = argparse.ArgumentParser(description="llama.cpp beside gemma-edge.")
    parser.add_argument("bundles", metavar="BUNDLE", type=Path, nargs="+")
    parser.add_argument("model", metavar="MODEL", type=Path, help="GGUF file of the same shape")
    parser.add_argument("--llama-bench", required=True, metavar="FILE", help="llama.cpp's benchmark")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="threads (default: all cores)")
    parser.add_argument("--prompt-tokens", type=int, default=512, metavar="N", help="0: decode only (default: 512)")
    parser.add_argument("--new-tokens", type=int, default=64, metavar="N", help="default: %(default)s")
    parser.add_argument("--context", type=int, default=0, metavar="N", help="tokens read before (default: 0)")
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    args = parser.parse_args(words[:cut])
    args.flags = words[cut + 1 :]
    threads = args.threads or len(os.sched_getaffinity(0))
    rounds = [in_turn(args, threads) for _ in range(args.rounds)]
    settings = {"threads": threads, "context": args.context, "rounds": args.rounds}
    for number, bundle in enumerate(args.bundles):
        print(json.dumps({"bundle": bundle.name} | settings | table([(one[number], one[-1]) for one in rounds])))
    return 0


def table(rounds: list[tuple[dict[str, float], dict[str, float]]]) -> dict[str, Any]:
    """Medians of both, printed, and as they are."""
    found: dict[str, Any] = {}
    print(f"{f'median of {len(rounds)}':20}{'gemma-edge':>12}{'llama.cpp':>12}{'ratio':>8}")
    for figure, label in FIGURES.items():
        if figure not in rounds[0][1]:
            continue
        a, b = (statistics.median(side[figure] for side in sides) for sides in zip(*rounds, strict=True))
        found[figure] = {"gemma_edge": a, "llama_cpp": b, "ratio": a / b}
        scale = 1e6 if figure.endswith("bytes") else 1
        print(f"{label:20}{a / scale:12.1f}{b / scale:12.1f}{a / b:8.2f}")
    found["of_bandwidth"] = statistics.median(share(ours_) for ours_, _ in rounds)
    print(f"{'of read bandwidth':20}{found['of_bandwidth']:12.2f}")
    return found


def share(figures: dict[str, Any]) -> float:
    """How near decoding came to the read bandwidth measured in the same process."""
    return float(figures["contexts"][0]["read_gb_s"] / figures["bandwidth_gb_s"])


if __name__ == "__main__":
    sys.exit(main())
