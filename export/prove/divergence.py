"""How far an artifact is from the float model, over the scored positions of windows of a text.

The float model reads a few windows at a time, a layer at a time; only its hidden states at scored
positions are kept.  Logits come from them again, some positions at a time, for each bundle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from runtime.bundle.bundle import Bundle
from runtime.errors import GemmaError
from runtime.measure.evaluation import Divergence
from runtime.measure.perplexity import Windows, nats, perplexity
from runtime.progress import Progress

from ..checkpoint.checkpoint import Checkpoint
from ..model.arrays import Doubles, Floats
from ..reference import FloatSource, Source, hidden_states, logits
from .compare import kl, log_softmax

LIKELY = 64  # tokens that total variation looks at
BINS = 16  # parts of the scored half of a window


@dataclass(frozen=True)
class PieceSizes:
    """How much is in memory at once; the figures do not depend on it.

    tokens: that the float model reads before the next pass over its layers
    head_rows: positions for which the head's weights are read once
    rows: positions that are compared at once: bounds the copies that their logits (n, vocab) need
    """

    tokens: int = 2048
    head_rows: int = 128
    rows: int = 16


IN_PIECES = PieceSizes()


def read(source: str, bundles: list[Bundle], windows: Windows, threads: int, pieces: PieceSizes = IN_PIECES) -> Reading:
    """Read windows with a checkpoint in float32.

    Raises GemmaError if it is not a sound checkpoint, or the bundles are not of its shape.
    """
    checkpoint = Checkpoint.open(source)
    for bundle in bundles:
        check_shape(checkpoint, bundle)
    if threads:
        torch.set_num_threads(threads)
    model = FloatSource(checkpoint)
    return Reading(
        checkpoint.folder.resolve().name, model, windows, scored_states(model, windows, pieces.tokens), pieces
    )


def check_shape(checkpoint: Checkpoint, bundle: Bundle) -> None:
    """Raises GemmaError unless vocabulary and hidden size are those of the bundle."""
    config, model = checkpoint.config, bundle.manifest.model
    if (config.vocab, config.hidden) != (model.vocab_size, model.hidden_size):
        raise GemmaError(
            f"{checkpoint.folder} has the vocabulary {config.vocab} and the hidden size {config.hidden}, "
            f"but {bundle.folder} has {model.vocab_size} and {model.hidden_size}",
            "give the checkpoint that the bundle was made of",
        )


def scored_states(source: Source, windows: Windows, tokens: int) -> Floats:
    """Hidden states after the final norm, (windows, scored, hidden)."""
    together = max(1, tokens // windows.tokens)
    starts = range(0, windows.count, together)
    parts = []
    with Progress("reading in float", len(starts) * len(source.config.layers)) as progress:
        for start in starts:
            states = hidden_states(source, windows.ids[start : start + together], progress=progress.advance)
            parts.append(states[:, windows.first : -1].copy())
    return np.concatenate(parts)


@dataclass(frozen=True)
class Reading:
    """Windows as the float model read them: hidden (windows, scored, hidden)."""

    name: str
    source: Source
    windows: Windows
    hidden: Floats
    pieces: PieceSizes = IN_PIECES

    def meter(self) -> Meter:
        """An empty meter for the logits of one artifact."""
        return Meter(self)


class Meter:
    """Figures of each scored position, (windows, scored), filled in as logits are seen."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        shape = reading.hidden.shape[:2]
        self.kl, self.variation, self.nats = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.agreed = np.zeros(shape, bool)

    def see(self, window: int, position: int, answered: Floats) -> None:
        """Compare logits (n, vocab) of the artifact from a position of a window on."""
        first, pieces = position - self.reading.windows.first, self.reading.pieces
        for start in range(0, len(answered), pieces.head_rows):
            states = self.reading.hidden[window, first + start : first + start + pieces.head_rows]
            states = states[: len(answered) - start]
            expected = logits(self.reading.source, states)
            for at in range(0, len(expected), pieces.rows):
                piece = answered[start + at : start + at + pieces.rows][: len(expected) - at]
                self.compare(window, first + start + at, expected[at : at + pieces.rows], piece)

    def compare(self, window: int, index: int, expected: Floats, answered: Floats) -> None:
        """Compare logits (n, vocab) of both models; `index` counts scored positions."""
        windows, at = self.reading.windows, (window, slice(index, index + len(answered)))
        self.kl[at] = kl(expected, answered)
        self.variation[at] = total_variation(expected, answered)
        self.agreed[at] = expected.argmax(-1) == answered.argmax(-1)
        self.nats[at] = nats(expected, windows.following(window, windows.first + index, len(answered)))

    def divergence(self) -> Divergence:
        return Divergence(
            float_perplexity=perplexity(float(self.nats.mean())),
            mean_kl=float(self.kl.mean()),
            worst_kl=float(self.kl.max()),
            agreement=float(self.agreed.mean()),
            tv64=float(self.variation.mean()),
            kl_by_position=by_position(self.kl, self.reading.windows.first),
        )


def total_variation(expected: Floats, answered: Floats, count: int = LIKELY) -> Doubles:
    """Half the sum of |p − q| over the tokens most likely for `expected`, both normalized on them, (n,)."""
    rest = max(0, expected.shape[-1] - count)
    ids = np.argpartition(expected, rest, -1)[:, rest:]
    p, q = (np.exp(log_softmax(np.take_along_axis(x, ids, -1))) for x in (expected, answered))
    variation: Doubles = np.abs(p - q).sum(-1, dtype=np.float64) / 2
    return variation


def by_position(values: Doubles, first: int) -> list[tuple[int, float]]:
    """(first position, mean) of up to BINS parts of the scored positions; values (windows, scored)."""
    parts = np.array_split(np.arange(values.shape[1]), min(BINS, values.shape[1]))
    return [(first + int(part[0]), float(values[:, part].mean())) for part in parts]
