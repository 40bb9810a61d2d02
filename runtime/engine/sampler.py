"""From logits to a token: greedy, or temperature, top-k, top-p with a seed.

Every step is defined (FORMAT.md, "Sampling"), so that Python, Kotlin and Swift draw the same token
from the same logits and seed.
"""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats
from ..bundle.splitmix import SplitMix64
from ..errors import RequestError

BLOCK = 64


@dataclass(frozen=True)
class Sampling:
    """temperature 0 is greedy; top_k 0 and top_p 1 keep every token."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        """Raises GemmaError for a value out of range."""
        if not 0 <= self.temperature <= sys.float_info.max:  # of a whole number too, which no float may hold
            raise RequestError(
                f"temperature must be finite and 0 or more, not {self.temperature!r:.40}",
                "0 always takes the best token, 1 samples from the model unchanged",
            )
        if self.top_k < 0:
            raise RequestError(f"top-k must be 0 or more, not {self.top_k}", "0 keeps every token")
        if not 0 < self.top_p <= 1:
            raise RequestError(f"top-p must be above 0 and at most 1, not {self.top_p}", "1 keeps every token")


class Sampler:
    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self.random = SplitMix64(secrets.randbits(64) if sampling.seed is None else sampling.seed)

    def __call__(self, logits: Floats) -> int:
        """Logits (vocab,) float32 to a token id."""
        if self.sampling.temperature == 0:
            return int(logits.argmax())
        ids, probabilities = self.candidates(logits)
        running = probabilities.cumsum()
        threshold = self.random.uniform() * running[-1]
        return int(ids[min(int(np.searchsorted(running, threshold, side="right")), len(ids) - 1)])

    def candidates(self, logits: Floats) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Ids from the most to the least likely (ties: lower id first), and their probabilities."""
        ids = best(logits, self.sampling.top_k)
        below = logits[ids].astype(np.float64) - np.float64(logits[ids[0]])
        probabilities = np.exp(below / self.sampling.temperature)
        probabilities /= probabilities.cumsum()[-1]  # one by one: numpy's sum adds in an order of its own
        if self.sampling.top_p < 1:
            # The smallest set that reaches top_p: a token stays while those before it have not.
            before = probabilities.cumsum() - probabilities
            kept = int((before < self.sampling.top_p).sum())
            ids, probabilities = ids[:kept], probabilities[:kept]
        return ids, probabilities


def best(logits: Floats, count: int) -> NDArray[np.int64]:
    """The ids of the `count` largest logits (0: all), largest first, ties by lower id."""
    ids = at_least_the_edge(logits, count) if 0 < count < len(logits) else np.arange(len(logits))
    order = np.lexsort((ids, -logits[ids]))
    chosen: NDArray[np.int64] = ids[order][: count or None]
    return chosen


def at_least_the_edge(logits: Floats, count: int) -> NDArray[np.int64]:
    """Few ids, among them those of the `count` largest logits.

    The count-th largest of the blocks' maxima is reached by `count` logits or more: four times
    faster than a partition of a large vocabulary.
    """
    blocks = len(logits) // BLOCK
    if count > blocks:
        return np.flatnonzero(logits >= np.partition(logits, len(logits) - count)[len(logits) - count])
    table = logits[: blocks * BLOCK].reshape(BLOCK, blocks)
    maxima = table.max(0)
    edge = np.partition(maxima, blocks - count)[blocks - count]
    columns = np.flatnonzero(maxima >= edge)
    rows, chosen = np.divmod(np.flatnonzero(table.take(columns, 1) >= edge), len(columns))
    tail = np.flatnonzero(logits[blocks * BLOCK :] >= edge) + blocks * BLOCK
    return np.concatenate((rows * blocks + columns[chosen], tail))
