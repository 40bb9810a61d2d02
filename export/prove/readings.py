"""What the references say at every position that is compared, in files, so that it is in memory a piece at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Manifest
from runtime.bundle.parity import Parity
from runtime.bundle.row_table import RowTable
from runtime.engine.contract import open_head, open_tables
from runtime.engine.head import Head
from runtime.machine.resident_memory import trim_heap

from ..model.config import GemmaConfig
from ..reference import FloatSource, QuantizedSource, Source, hidden_states, hidden_states_twice, logits
from ..weights.linears import Weights
from .compare import Floats, Reading, Tally, spans
from .seal import FLOAT, Key, kept, large, places, ways

NOISY = 32  # tokens of a large model that are read in float64, too
PIECE = 32  # positions at a time


@dataclass(frozen=True)
class QuantizedSources:
    """What the bundle's integers stand for, by bits of the caches, and without the head's second stage if asked."""

    config: GemmaConfig
    weights: Weights
    bundle: Bundle

    @cached_property
    def tables(self) -> dict[str, RowTable]:
        return open_tables(self.bundle)

    @cached_property
    def head(self) -> Head | None:
        return open_head(self.bundle, self.tables)

    def __call__(self, bits: int, first: bool) -> QuantizedSource:
        config = dataclasses.replace(self.config, cache_bits=bits)
        return QuantizedSource(config, self.weights, self.tables, None if first else self.head)


@dataclass(frozen=True)
class Reader:
    """Of a text, ids (T,); files go to `folder`."""

    ids: NDArray[np.int64]
    window: int
    folder: Path
    manifest: Manifest

    def readings(self, model: FloatSource, hidden: Floats, sources: QuantizedSources) -> dict[Key, Reading]:
        """Of the float model, whose hidden states (n, hidden) are there, and of the integers as each way needs them."""
        found = {FLOAT: self.reading("float", model, hidden)}
        wanted = {way.key(self.manifest, sources.config.cache_bits) for way in ways(self.manifest)}
        for bits in sorted({bits for bits, _ in wanted}):
            hidden, noise = self.hidden(sources(bits, True))
            for first in sorted(first for other, first in wanted if other == bits):
                reading = self.reading(f"{bits}.{first}", sources(bits, first), hidden)
                found[bits, first] = replace(reading, noise=noise)
        trim_heap()
        return found

    def hidden(self, source: QuantizedSource) -> tuple[Floats, Parity | None]:
        """Hidden states (n, hidden), and with static ranges how far they lead from those in float64.

        A last digit can move a value to the next step of a range, and then all that follow.
        """
        ids = self.ids[None, : max(stop for _, stop in self.spans(len(self.ids)))]
        if not source.config.activation_scales:
            return hidden_states(source, ids)[0], None
        narrow, wide = hidden_states_twice(source, ids, NOISY if large(self.manifest) else ids.shape[1])
        return narrow[0], noise_of(source, narrow[0], wide[0])

    def reading(self, name: str, source: Source, hidden: Floats) -> Reading:
        pieces = {}
        for first, stop in self.spans(len(hidden)):
            pieces[first] = self.folder / f"reading.{name}.{first}.npy"
            np.save(pieces[first], logits(source, hidden[first:stop]))
        return Reading(len(hidden), pieces)

    def spans(self, length: int) -> list[tuple[int, int]]:
        """Positions that some way is compared at, of the first `length`."""
        several = {tuple(places(way.runner, self.manifest, self.window, len(self.ids))) for way in ways(self.manifest)}
        return merged(span for one in several for span in spans(list(one), kept(self.manifest), length))


def noise_of(source: Source, narrow: Floats, wide: NDArray[np.float64]) -> Parity:
    """What hidden states in float32 say against those in float64, which may be fewer."""
    tally = Tally()
    for start in range(0, len(wide), PIECE):
        piece = slice(start, min(start + PIECE, len(wide)))
        tally.add(logits(source, wide[piece]), logits(source, narrow[piece]))
    return tally.parity()


def merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same positions in spans that do not overlap."""
    found: list[tuple[int, int]] = []
    for first, stop in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((first, stop))
    return found
