"""Perplexity of a bundle on a text, by the rule of llama-perplexity, so that figures compare.

    python tests/real/perplexity.py BUNDLE TEXT --windows 40

The text is cut into windows of 512 tokens; the first token of each becomes BOS, and the second half is
scored.  The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import Bundle
from runtime.decoder import Decoder
from runtime.errors import GemmaError
from runtime.progress import Progress
from runtime.tokenizer import Tokenizer

WINDOW, SCORED = 512, 256


def cut(ids: list[int], bos: int, limit: int) -> NDArray[np.int64]:
    """Whole windows (n, WINDOW), at most `limit`, each beginning with BOS."""
    count = min(limit, len(ids) // WINDOW)
    windows = np.array(ids[: count * WINDOW], np.int64).reshape(count, WINDOW)
    windows[:, 0] = bos
    return windows


def surprise(logits: NDArray[np.float32], expected: NDArray[np.int64]) -> float:
    """Nats of the expected tokens; row by row, because a copy of all logits is a quarter of a gigabyte."""
    total = 0.0
    for row, token in zip(logits, expected, strict=True):
        largest = float(row.max())
        total += math.log(float(np.exp(row - largest).sum(dtype=np.float64))) + largest - float(row[token])
    return total


def perplexity(bundle: Bundle, text: str, limit: int, threads: int) -> tuple[float, int]:
    """The figure, and how many windows it is of.  Raises GemmaError for a text shorter than a window."""
    tokenizer, decoder = Tokenizer.of(bundle), Decoder(bundle, threads)
    windows = cut(tokenizer.encode(text, bos=True), tokenizer.bos, limit)
    if not len(windows):
        raise GemmaError(f"the text is shorter than one window of {WINDOW} tokens", "give a longer one")
    nats = 0.0
    with Progress("scoring", len(windows)) as progress:
        for window in windows:
            decoder.reset()
            logits = decoder.prefill(window, kept=SCORED).logits
            nats += surprise(logits[:-1], window[-SCORED + 1 :])
            progress.advance(1)
    return math.exp(nats / (len(windows) * (SCORED - 1))), len(windows)


def main() -> int:
    parser = argparse.ArgumentParser(description="Perplexity of a bundle on a text.")
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument("text", metavar="TEXT", type=Path, help="UTF-8 text")
    parser.add_argument("--windows", type=int, default=40, metavar="N", help="most windows (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="threads (default: all cores)")
    args = parser.parse_args()
    try:
        bundle = Bundle.open(args.bundle)
        found, windows = perplexity(bundle, args.text.read_text(encoding="utf-8"), args.windows, args.threads)
    except (GemmaError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    recipe = bundle.manifest.recipe.name
    print(f"{recipe}: perplexity {found:.3f} over {windows} windows of {WINDOW} tokens")
    print(json.dumps({"recipe": recipe, "perplexity": round(found, 4), "windows": windows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
