"""Golden answers: what the artifact gave when it was verified, for any machine to repeat.

Each golden is a prompt, the ids that followed it, and at every step the largest logits.  Another
processor rounds differently, so logits are compared with a tolerance that the exporter recorded,
and a token may differ only where the best two logits are closer than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..engine.contract import Engine
from ..engine.piece import Piece
from ..engine.sampler import best
from ..errors import BundleError

TOP = 8


class Golden(msgspec.Struct, frozen=True):
    """prompt ids; ids that follow, greedy; per step the ids and values of the largest logits."""

    prompt: list[int]
    ids: list[int]
    top_ids: list[list[int]]
    top_logits: list[list[float]]

    def __post_init__(self) -> None:
        """Raises ValueError, which decoding turns into a sentence, unless every step has its answers."""
        widths = [len(ids) for ids in self.top_ids], [len(values) for values in self.top_logits]
        if (
            not self.prompt
            or not self.ids
            or 0 in widths[0]
            or widths[0] != widths[1]
            or len(widths[0]) != len(self.ids)
        ):
            raise ValueError("a golden without a prompt, a step or its logits")


class Goldens(msgspec.Struct, frozen=True):
    tolerance: float
    prompts: Annotated[list[Golden], msgspec.Meta(min_length=1)]


@dataclass(frozen=True)
class Check:
    """worst: largest difference of a logit; tokens: steps whose most likely token differs beyond doubt."""

    steps: int
    worst: float
    tokens: int

    def passes(self, tolerance: float) -> bool:
        return self.worst <= tolerance and not self.tokens


def record(decoder: Engine, prompt: list[int], steps: int) -> Golden:
    """Greedy steps after a prompt."""
    decoder.reset()
    logits = decoder.prefill(np.array(prompt, np.int64)).logits[-1]
    ids: list[int] = []
    top_ids: list[list[int]] = []
    top_logits: list[list[float]] = []
    for _ in range(steps):
        top = best(logits, TOP)
        top_ids.append(top.tolist())
        top_logits.append([float(value) for value in logits[top]])
        ids.append(int(top[0]))
        logits = decoder.forward(Piece(np.array(ids[-1:], np.int64))).logits[-1]
    return Golden(prompt, ids, top_ids, top_logits)


def check(decoder: Engine, golden: Golden, tolerance: float) -> Check:
    """Repeat a golden, fed with its own ids, so that one rounding does not hide the rest.

    Raises GemmaError for a golden of another vocabulary.
    """
    ids = [token for row in [golden.prompt, golden.ids, *golden.top_ids] for token in row]
    if not 0 <= min(ids) <= max(ids) < decoder.model.vocab_size:
        raise BundleError(
            f"a golden answer has token {max(ids)}, but the model has only {decoder.model.vocab_size} tokens",
            "export the bundle again",
        )
    decoder.reset()
    logits = decoder.prefill(np.array(golden.prompt, np.int64)).logits[-1]
    worst, wrong = 0.0, 0
    for token, top, values in zip(golden.ids, golden.top_ids, golden.top_logits, strict=True):
        worst = max(worst, difference(logits[top], values))
        wrong += bool(logits.max() - logits[token] > 2 * tolerance)
        logits = decoder.forward(Piece(np.array([token], np.int64))).logits[-1]
    return Check(len(golden.ids), worst, wrong)


def difference(values: NDArray[np.float32], expected: list[float]) -> float:
    """The largest absolute difference; infinite if any is not a number."""
    gap = float(np.abs(values - np.array(expected)).max())
    return gap if np.isfinite(gap) else float("inf")
