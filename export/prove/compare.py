"""An artifact against the float model, and against the values that its own integers stand for.

One text is read by the references once, whole; the artifact reads beginnings of it, of lengths around
the sliding window, and then single steps.  Position by position the logits must agree.  Nothing here needs
torch: what the references say is in files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.parity import Parity, Report
from runtime.engine.chunk import CHUNK
from runtime.engine.contract import Engine
from runtime.engine.piece import Piece
from runtime.measure.golden import Goldens, record

from ..model.arrays import Floats
from .runs import STEPS, first_compared, overlapping

GOLDEN_PROMPTS, GOLDEN_STEPS = (1, 12, 40), 12
LEAST = 0.1  # of the positions: those before the first step that went the other way are among them


@dataclass
class Tally:
    """Sums over compared positions."""

    positions: int = 0
    agreed: int = 0
    divergence: float = 0.0
    worst_divergence: float = 0.0
    worst_difference: float = 0.0
    differences: list[float] = field(default_factory=list)
    largest: float = 0.0

    def add(self, logits: Floats, expected: Floats) -> None:
        """Count the logits (n, vocab) of an artifact at positions where those of the reference are `expected`."""
        divergence, differences = kl(expected, logits), np.abs(logits - expected).max(-1)
        self.positions += len(logits)
        self.agreed += int((logits.argmax(-1) == expected.argmax(-1)).sum())
        self.divergence += float(divergence.sum())
        self.worst_divergence = max(self.worst_divergence, float(divergence.max()))
        self.worst_difference = max(self.worst_difference, float(differences.max()))
        self.differences += differences.tolist()
        self.largest = max(self.largest, float(np.abs(expected).max()))

    def parity(self) -> Parity:
        return Parity(
            self.positions,
            self.agreed / self.positions,
            self.divergence / self.positions,
            self.worst_divergence,
            self.worst_difference,
            self.worst_difference / self.largest,
            float(np.mean(self.differences)) / self.largest,
            float(np.quantile(self.differences, LEAST)) / self.largest,
        )


def kl(expected: Floats, logits: Floats) -> NDArray[np.float64]:
    """KL(expected || logits) in nats, (n,); a row at a time, so that it stays in the processor's cache."""
    return np.array([row_kl(*pair) for pair in zip(expected, logits, strict=True)])


def row_kl(expected: Floats, logits: Floats) -> float:
    p, q = log_softmax(expected), log_softmax(logits)
    return float(np.maximum(0.0, (np.exp(p) * (p - q)).sum(dtype=np.float64)))  # NaN stays NaN


def log_softmax(x: Floats) -> Floats:
    shifted = x - x.max(-1, keepdims=True)
    total: NDArray[np.float64] = np.log(np.exp(shifted).sum(-1, keepdims=True, dtype=np.float64))
    normalized: Floats = shifted - total.astype(np.float32)
    return normalized


@dataclass(frozen=True)
class ReferenceLogits:
    """What a reference says of the first `length` tokens of a text.

    pieces: files of logits (n, vocab) of neighbouring positions, by the first of them
    noise: how far it is from itself in float64, where rounding makes that more than float32's last digits
    """

    length: int
    pieces: dict[int, Path]
    noise: Parity | None = None

    def between(self, first: int, stop: int) -> Floats:
        """Logits (n, vocab) from position `first` to before `stop`, as far as the reference has read."""
        start = max(piece for piece in self.pieces if piece <= first)
        logits: Floats = np.load(self.pieces[start], mmap_mode="r", allow_pickle=False)
        return logits[first - start : min(stop, self.length) - start]


@dataclass(frozen=True)
class Reader:
    """An artifact that reads beginnings of one text.

    ids: (T,), the text; rows: the most positions of a prompt whose logits are compared
    states: of the caches after whole calls, by their position: longer prompts begin with the same tokens
    """

    engine: Engine
    ids: NDArray[np.int64]
    rows: int
    states: dict[int, Any]
    chunk: int = CHUNK

    @classmethod
    def at_the_beginning(cls, engine: Engine, ids: NDArray[np.int64], rows: int, chunk: int = CHUNK) -> Reader:
        return cls(engine, ids, rows, {0: engine.save()}, chunk)

    def logits(self, prompt: int) -> Floats:
        """Logits (n, vocab) of the end of a prompt, from `first_compared` on, and of the steps after it."""
        return np.concatenate(list(self._pieces(prompt)))

    def _pieces(self, prompt: int) -> Iterator[Floats]:
        start = max(position for position in self.states if position < prompt)
        self.engine.restore(self.states[start])
        rows = prompt - first_compared(prompt, self.rows, self.chunk)
        yield self.engine.prefill(self.ids[start:prompt], rows).logits.copy()
        if prompt % self.chunk == 0:
            self.states[prompt] = self.engine.save()
        for position in range(prompt, prompt + STEPS):  # steps are fed with the text
            yield self.engine.forward(Piece(self.ids[position : position + 1])).logits.copy()


def compare(
    name: str,
    reader: Reader,
    references: Mapping[str, ReferenceLogits],
    prompts: Sequence[int],
    progress: Callable[[float], None] = lambda done: None,
) -> Report:
    """Let an artifact read prompts; the end of each is compared with the references that have read as far."""
    tallies = {reference: Tally() for reference in references}
    for group in overlapping(prompts, reader.rows, reader.chunk):
        compare_group(reader, group, references, tallies)
        progress(len(group))
    against = {reference: tally.parity() for reference, tally in tallies.items()}
    return Report(name, list(prompts), STEPS, against, noise=references["quantized"].noise)


def compare_group(
    reader: Reader, prompts: Sequence[int], references: Mapping[str, ReferenceLogits], tallies: dict[str, Tally]
) -> None:
    """Compare prompts whose positions overlap; a row of logits is 1 MB."""
    first, stop = first_compared(prompts[0], reader.rows, reader.chunk), prompts[-1] + STEPS
    expected = {name: said.between(first, stop) for name, said in references.items() if said.length > first}
    for prompt in prompts:
        logits = reader.logits(prompt)
        start = first_compared(prompt, reader.rows, reader.chunk) - first
        for name, rows in expected.items():
            if prompt + STEPS <= references[name].length:
                tallies[name].add(logits, rows[start : start + len(logits)])
        del logits  # before there are the next


def goldens(engine: Engine, ids: NDArray[np.int64], report: Report) -> Goldens:
    """Record what the artifact answers, with the tolerance that its own rounding asks for."""
    values = report.against["quantized"]
    prompts = [record(engine, ids[:length].tolist(), GOLDEN_STEPS) for length in GOLDEN_PROMPTS]
    return Goldens(tolerance=max(1e-3, 2 * values.worst_difference), prompts=prompts)
