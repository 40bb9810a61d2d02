"""Perplexity by the rule of llama-perplexity, so that figures compare.

A text is cut into windows.  The first token of each becomes BOS, and the second half is scored: the
logits at positions tokens / 2 to tokens - 2, by the token that comes next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Ids
from ..engine.chunk import CHUNK
from ..engine.contract import Engine
from ..engine.piece import Piece
from ..errors import BundleError

See = Callable[[int, int, Floats], None]  # window, position of the first row, logits (n, vocab)


@dataclass(frozen=True)
class Windows:
    """Whole windows of a text, ids (count, tokens), each beginning with BOS."""

    ids: Ids

    @property
    def count(self) -> int:
        return len(self.ids)

    @property
    def tokens(self) -> int:
        return int(self.ids.shape[1])

    @property
    def first(self) -> int:
        """The first position whose logits are scored."""
        return self.tokens // 2

    @property
    def scored(self) -> int:
        """Positions of a window that are scored; the last one has no next token."""
        return self.tokens - 1 - self.first

    def following(self, window: int, position: int, count: int) -> Ids:
        """The tokens that come after some positions, (count,)."""
        return self.ids[window, position + 1 : position + 1 + count]


def cut(ids: list[int], bos: int, tokens: int, limit: int) -> Windows:
    """Cut at most `limit` windows; what is left over at the end is not used."""
    count = min(limit, len(ids) // tokens)
    windows = np.array(ids[: count * tokens], np.int64).reshape(count, tokens)
    windows[:, 0] = bos
    return Windows(windows)


def nats(logits: Floats, following: Ids) -> NDArray[np.float64]:
    """Nats of the tokens that came, (n,); row by row, because a copy of logits (n, vocab) can be large."""
    lost = np.empty(len(logits))
    for index, (row, token) in enumerate(zip(logits, following, strict=True)):
        largest = float(row.max())
        total = float(np.exp(row - largest).sum(dtype=np.float64))
        lost[index] = math.log(total) + largest - float(row[token])
    return lost


def perplexity(nats: float) -> float:
    """Turn a mean in nats a token into a perplexity; infinite where a float can not hold it."""
    return math.exp(nats) if nats < 700 else math.inf


def scored_logits(decoder: Engine, windows: Windows, window: int, chunk: int = CHUNK) -> Iterator[tuple[int, Floats]]:
    """(position of the first row, logits (n, vocab)) of all scored positions, a chunk at a time."""
    decoder.reset()
    first, end = windows.first, windows.tokens - 1
    for start in range(0, windows.tokens, chunk):
        ids = windows.ids[window, start : start + chunk]
        kept = min(len(ids), max(1, start + len(ids) - first))
        logits, position = decoder.forward(Piece(ids, kept)).logits, start + len(ids) - kept
        if first <= position < end:
            yield position, logits[: end - position]


def ignore(window: int, position: int, logits: Floats) -> None:
    """Nobody looks at the logits."""


def score(
    decoder: Engine, windows: Windows, see: See = ignore, progress: Callable[[float], None] = lambda done: None
) -> float:
    """Perplexity of an artifact as it runs; `see` is shown the scored logits, which it must not keep.

    Raises GemmaError if the logits are not numbers.
    """
    total = 0.0
    for window in range(windows.count):
        for position, logits in scored_logits(decoder, windows, window):
            lost = float(nats(logits, windows.following(window, position, len(logits))).sum())
            if not math.isfinite(lost):
                raise BundleError(
                    f"window {window}: logits from position {position} on are NaN or Inf",
                    "check the bundle with `gemma-edge verify`",
                )
            total += lost
            see(window, position, logits)
        progress(1)
    return perplexity(total / (windows.count * windows.scored))
