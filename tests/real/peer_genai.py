"""onnxruntime-genai on the same checkpoint, beside gemma-edge: rates and peak memory.

    python tests/real/peer_genai.py build CHECKPOINT MODEL     with the peer's Python: its int4 model
    python tests/real/peer_genai.py time MODEL                 with the peer's Python: one round
    python tests/real/peer_genai.py compare BUNDLE MODEL --peer-python PYTHON

`compare` runs one process of each after the other, several rounds, so that both meet the same machine, and
takes medians.  Its last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CAPACITY = 512  # it refuses caches smaller than the model's window
FIGURES = {
    "decode_tok_s": "decode, tokens/s",
    "prefill_tok_s": "prefill, tokens/s",
    "peak_rss_bytes": "peak memory, MB",
}


def build(args: argparse.Namespace) -> int:
    """The peer's own builder, its defaults for int4.

    transformers 5 gives rotary parameters per kind of layer, which the builder of 0.18 reads for
    Gemma 4 only.
    """
    import onnxruntime_genai

    builder = Path(onnxruntime_genai.__file__).parent / "models" / "builder.py"
    sys.path.insert(0, str(builder.parent))
    from builders.gemma import Gemma3Model  # type: ignore[import-not-found]

    def rotary(model: Any, config: Any) -> None:
        model.rope_attrs["theta"] = config.rope_parameters["full_attention"]["rope_theta"]
        config.rope_local_base_freq = config.rope_parameters["sliding_attention"]["rope_theta"]

    Gemma3Model.make_rope_init = rotary
    with tempfile.TemporaryDirectory() as cache:
        sys.argv = [str(builder), "-m", "none", "-i", str(args.checkpoint), "-o", str(args.model)]
        sys.argv += ["-p", "int4", "-e", "cpu", "-c", cache]
        runpy.run_path(str(builder), run_name="__main__")
    return 0


def time_peer(args: argparse.Namespace) -> int:
    """As `gemma-edge bench`: random tokens, greedy; the first repetition warms up; medians."""
    import numpy as np
    import onnxruntime_genai as og

    begun = time.perf_counter()
    config = og.Config(str(args.model))
    threads = {"model": {"decoder": {"session_options": {"intra_op_num_threads": args.threads}}}}
    config.overlay(json.dumps(threads))
    model = og.Model(config)
    load_s = time.perf_counter() - begun
    draw = random.Random(0)
    prefill, decode = [], []
    for repetition in range(args.repeat + 1):
        prompt = np.array([draw.randrange(1000, 250_000) for _ in range(args.prompt_tokens)], np.int32)
        prompt_s, step_s = once(og, model, prompt, args.new_tokens)
        if repetition:
            prefill.append(args.prompt_tokens / prompt_s)
            decode.append(1 / step_s)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    found = {"prefill_tok_s": statistics.median(prefill), "decode_tok_s": statistics.median(decode)}
    print(json.dumps({**found, "load_s": load_s, "peak_rss_bytes": peak}))
    return 0


def once(og: Any, model: Any, prompt: Any, new_tokens: int) -> tuple[float, float]:
    """Seconds to read the prompt and choose a token, and median seconds of a step after it."""
    length = max(CAPACITY, len(prompt) + new_tokens + 1)
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=length, min_length=length, do_sample=False)
    generator = og.Generator(model, params)
    begun = time.perf_counter()
    generator.append_tokens(prompt)
    generator.generate_next_token()
    prompt_s = time.perf_counter() - begun
    steps = []
    for _ in range(new_tokens):
        begun = time.perf_counter()
        generator.generate_next_token()
        steps.append(time.perf_counter() - begun)
    return prompt_s, statistics.median(steps)


def compare(args: argparse.Namespace) -> int:
    threads = args.threads or len(os.sched_getaffinity(0))
    settings = [f"--threads={threads}", f"--prompt-tokens={args.prompt_tokens}", f"--new-tokens={args.new_tokens}"]
    ours = [Path(sys.executable).with_name("gemma-edge"), "bench", args.bundle, "--json", "--repeat=1", *settings]
    peer = [args.peer_python, __file__, "time", args.model, "--repeat=1", *settings]
    rounds = [(last_json(ours), last_json(peer)) for _ in range(args.rounds)]
    found: dict[str, Any] = {"threads": threads, "rounds": args.rounds}
    print(f"{'median of ' + str(args.rounds):20}{'gemma-edge':>12}{'genai':>12}{'ratio':>8}")
    for figure, label in FIGURES.items():
        a, b = (statistics.median(side[figure] for side in sides) for sides in zip(*rounds, strict=True))
        found[figure] = {"gemma_edge": a, "genai": b, "ratio": a / b}
        scale = 1e6 if figure.endswith("bytes") else 1
        print(f"{label:20}{a / scale:12.1f}{b / scale:12.1f}{a / b:8.2f}")
    print(json.dumps(found))
    return 0


def last_json(command: list[str | Path]) -> dict[str, float]:
    """The last line that a command prints.  Exits with the command's own words if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {' '.join(map(str, command))}\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="threads (default: all cores)")
    parser.add_argument("--prompt-tokens", type=int, default=512, metavar="N", help="default: %(default)s")
    parser.add_argument("--new-tokens", type=int, default=64, metavar="N", help="default: %(default)s")


def main() -> int:
    parser = argparse.ArgumentParser(description="onnxruntime-genai beside gemma-edge.")
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("build", help="make the peer's int4 model of a checkpoint")
    verb.set_defaults(run=build)
    verb.add_argument("checkpoint", metavar="CHECKPOINT", type=Path)
    verb.add_argument("model", metavar="MODEL", type=Path, help="folder to make")
    verb = verbs.add_parser("time", help="time the peer's model once")
    verb.set_defaults(run=time_peer)
    verb.add_argument("model", metavar="MODEL", type=Path)
    verb.add_argument("--repeat", type=int, default=1, metavar="N", help="repetitions (default: %(default)s)")
    add_settings(verb)
    verb = verbs.add_parser("compare", help="time both in turn")
    verb.set_defaults(run=compare)
    verb.add_argument("bundle", metavar="BUNDLE", type=Path)
    verb.add_argument("model", metavar="MODEL", type=Path, help="folder that `build` made")
    verb.add_argument("--peer-python", required=True, metavar="PYTHON", help="Python that has onnxruntime-genai")
    verb.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (default: %(default)s)")
    add_settings(verb)
    args = parser.parse_args()
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
