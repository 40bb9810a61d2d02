"""The parts that a checkpoint may have, by name: what makes a part of a checkpoint, or None if it has none such."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..checkpoint.checkpoint import Checkpoint
from .source import PartSource

Maker = Callable[[Checkpoint], PartSource | None]
EVERY: Mapping[str, Maker] = {}


def parts_of(checkpoint: Checkpoint, makers: Mapping[str, Maker] = EVERY) -> list[PartSource]:
    """Return the parts that a checkpoint has."""
    sources = (make(checkpoint) for make in makers.values())
    return [source for source in sources if source is not None]
