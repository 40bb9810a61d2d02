"""What every engine is: token ids in, logits out, and the parts of a bundle that all of them open.

Nothing here loads an engine, so that one can be imported without the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..bundle.bundle import Bundle
from ..bundle.manifest import Model
from ..bundle.row_table import RowTable
from ..errors import GemmaError
from .head import Head

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


class Cancelled(Exception):
    """The running call was stopped from another thread."""


@dataclass(frozen=True)
class Step:
    """What a call gives for the kept positions; overwritten by the next call of the same shape.

    logits: (kept, vocab) float32, hidden: (kept, hidden) float32 after the final norm
    """

    logits: Floats
    hidden: Floats


class Reads(Protocol):
    """What reads tokens and answers with logits."""

    model: Model
    position: int
    head: Head | None  # the second stage; None: logits are the graph's

    def reset(self) -> None: ...
    def prefill(self, ids: Ids, kept: int = 1) -> Step: ...
    def forward(self, ids: Ids, kept: int = 1) -> Step: ...
    def save(self) -> Any: ...
    def restore(self, state: Any) -> None: ...
    def rewind(self, position: int) -> bool: ...


class Mark(Protocol):
    """What `save` returns, for `restore` of the same engine."""

    @property
    def position(self) -> int: ...


class Engine(Reads, Protocol):
    """Token ids in, logits out; `position` tokens are in the caches.  OnnxEngine describes each."""

    threads: int
    tables: dict[str, RowTable]

    def cancel(self) -> None: ...
    def resume(self) -> None: ...


def open_tables(bundle: Bundle) -> dict[str, RowTable]:
    return {name: RowTable(bundle.path(table.file), table.multiplier) for name, table in bundle.manifest.tables.items()}


def open_head(bundle: Bundle, tables: dict[str, RowTable]) -> Head | None:
    """The second stage of the head, if the bundle has one."""
    model = bundle.manifest.model
    return Head(tables["tokens"], model.rescored, model.softcap) if model.rescored else None


def check_tables(bundle: Bundle, tables: dict[str, RowTable]) -> None:
    """Raises GemmaError unless the row files have the sizes that the manifest gives."""
    model = bundle.manifest.model
    per_layer = {"per_layer": [model.layers, model.per_layer_dim]} if model.per_layer_dim else {}
    rows = {name: [table.format.layers, table.format.dim] for name, table in tables.items()}
    if rows != {"tokens": [1, model.hidden_size], **per_layer}:
        raise GemmaError(
            f"{bundle.folder}: the row files do not have the sizes that bundle.json gives", "export the bundle again"
        )
