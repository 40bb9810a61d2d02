"""What the references say at every position that is compared, in files, so that it is in memory a piece at a time."""

from __future__ import annotations

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

from ..model.arrays import Floats
from ..model.config import GemmaConfig
from ..reference import FloatSource, QuantizedSource, Source, hidden_states, hidden_states_twice, logits
from ..weights.linears import Weights
from .compare import ReferenceLogits, Tally
from .runs import FLOAT, ProofSettings, Reference, compared_spans, is_large, merged, prompt_lengths, runs

NOISY = 32  # tokens of a large model that are read in float64, too
PIECE = 32  # positions at a time


@dataclass(frozen=True)
class QuantizedSources:
    """What the bundle's integers stand for, as each reference has them."""

    config: GemmaConfig
    weights: Weights
    bundle: Bundle

    @cached_property
    def tables(self) -> dict[str, RowTable]:
        return open_tables(self.bundle)

    @cached_property
    def head(self) -> Head | None:
        return open_head(self.bundle, self.tables)

    def __call__(self, reference: Reference) -> QuantizedSource:
        config = replace(self.config, cache_bits=reference.cache_bits)
        return QuantizedSource(config, self.weights, self.tables, None if reference.one_stage else self.head)


@dataclass(frozen=True)
class ReadText:
    """A text that references read: ids (T,), and the positions of it that some run is compared at.

    window: of the model; folder: where the logits go, in files
    """

    ids: NDArray[np.int64]
    window: int
    folder: Path
    manifest: Manifest
    settings: ProofSettings

    def logits_of_all(
        self, model: FloatSource, hidden: Floats, sources: QuantizedSources
    ) -> dict[Reference, ReferenceLogits]:
        """Logits of the float model, from its hidden states (n, hidden), and of every reference that a run needs."""
        read = {FLOAT: self.logits("float", model, hidden)}
        wanted = {run.reference(self.manifest, sources.config.cache_bits) for run in runs(self.manifest)}
        for bits in sorted({reference.cache_bits for reference in wanted}):
            hidden, noise = self.hidden(sources(Reference(bits, one_stage=True)))
            for reference in sorted(reference for reference in wanted if reference.cache_bits == bits):
                name = f"{reference.cache_bits}.{reference.one_stage}"
                read[reference] = replace(self.logits(name, sources(reference), hidden), noise=noise)
        trim_heap()
        return read

    def hidden(self, source: QuantizedSource) -> tuple[Floats, Parity | None]:
        """Hidden states (n, hidden), and with static ranges how far they lead from those in float64.

        A last digit can move a value to the next step of a range, and then all that follow.
        """
        ids = self.ids[None, : max(stop for _, stop in self.spans(len(self.ids)))]
        if not source.config.activation_scales:
            return hidden_states(source, ids)[0], None
        narrow, wide = hidden_states_twice(source, ids, NOISY if is_large(self.manifest) else ids.shape[1])
        return narrow[0], noise_of(source, narrow[0], wide[0])

    def logits(self, name: str, source: Source, hidden: Floats) -> ReferenceLogits:
        """Write the logits of a reference, from its hidden states (n, hidden)."""
        pieces = {}
        for first, stop in self.spans(len(hidden)):
            pieces[first] = self.folder / f"reading.{name}.{first}.npy"
            np.save(pieces[first], logits(source, hidden[first:stop]))
        return ReferenceLogits(len(hidden), pieces)

    def spans(self, length: int) -> list[tuple[int, int]]:
        """Positions that some run is compared at, of the first `length`."""
        settings = {run.settings(self.manifest, self.settings) for run in runs(self.manifest)}
        return merged(
            span
            for setting in settings
            for span in compared_spans(
                prompt_lengths(setting.prompts, self.window, len(self.ids)), setting.compared_rows, length
            )
        )


def noise_of(source: Source, narrow: Floats, wide: NDArray[np.float64]) -> Parity:
    """How far logits of hidden states in float32 are from those of states in float64, which may be fewer."""
    tally = Tally()
    for start in range(0, len(wide), PIECE):
        piece = slice(start, min(start + PIECE, len(wide)))
        tally.add(logits(source, wide[piece]), logits(source, narrow[piece]))
    return tally.parity()
