"""What every engine is: token ids in, logits out, and the parts of a bundle that all of them open.

Nothing here loads an engine, so that one can be imported without the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..arrays import Floats, Ids
from ..bundle.bundle import Bundle
from ..bundle.manifest import Manifest, ModelFacts
from ..bundle.row_table import RowTable
from ..errors import BundleError, GemmaError, RequestError
from .cache import KVCache, Rows
from .head import Head
from .memory_plan import Plan
from .piece import Piece

MOST_THREADS = 1024  # more than any machine of today has cores; engines fail without words on absurd numbers


class Cancelled(Exception):
    """The running call was stopped from another thread."""


@dataclass(frozen=True)
class Step:
    """What a call gives for the kept positions; overwritten by the next call of the same shape.

    logits: (kept, vocab) float32, hidden: (kept, hidden) float32 after the final norm
    """

    logits: Floats
    hidden: Floats


class State(Protocol):
    """What `save` returns, for `restore` of the same engine."""

    @property
    def position(self) -> int: ...


class Weights(Protocol):
    """What all conversations with a bundle share: its artifact as it is loaded, its row files, its head.

    `planned` is the memory that a bundle takes in this engine at its peak, before it is opened; None where the engine
    does not say.  `engine` gives what one conversation has of its own.  `close` frees what is shared; engines raise
    GemmaError then.
    """

    model: ModelFacts
    threads: int
    tables: dict[str, RowTable]
    head: Head | None  # the second stage; None: logits are the graph's

    def __init__(self, bundle: Bundle, threads: int = 0, beside: Callable[[], object] = lambda: None) -> None: ...
    @staticmethod
    def planned(manifest: Manifest, context: int, *, text: bool = False) -> Plan | None: ...
    def engine(self) -> Engine: ...
    def close(self) -> None: ...


class Engine(Protocol):
    """Token ids go in and logits come out; `position` tokens are in the caches.  OnnxEngine describes each method.

    `caches` and `fill` are for saving a conversation: an engine whose program owns the caches has None, and can not
    be filled.
    """

    model: ModelFacts
    position: int
    head: Head | None
    tables: dict[str, RowTable]
    threads: int

    @property
    def weights(self) -> Weights: ...
    def reset(self) -> None: ...
    def prefill(self, ids: Ids, kept: int = 1) -> Step: ...
    def forward(self, piece: Piece) -> Step: ...
    def save(self) -> State: ...
    def restore(self, state: Any) -> None: ...
    def rewind(self, position: int) -> bool: ...
    def cancel(self) -> None: ...
    def resume(self) -> None: ...
    def plan(self, context: int) -> Plan | None: ...
    def caches(self) -> Sequence[KVCache] | None: ...
    def fill(self, position: int, arrays: Sequence[tuple[Rows, Rows]]) -> None: ...


def prefetch(tables: dict[str, RowTable], ids: Ids) -> None:
    """Ask the kernel for the rows of a whole prompt, before the first call reads some."""
    for table in tables.values():
        table.prefetch(ids)


def check_threads(threads: int) -> None:
    """Raises GemmaError for what is no number of threads, or more than `MOST_THREADS`."""
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 0:
        raise RequestError(f"threads must be 0 or more, not {threads!r:.40}", "0 takes the cores that are idle")
    if threads > MOST_THREADS:
        raise RequestError(f"threads must be at most {MOST_THREADS}, not {threads}", "0 takes the cores that are idle")


def closed(what: str = "model") -> GemmaError:
    """The error of a conversation that is closed, or whose model is."""
    return RequestError(f"the {what} is closed", "open it again")


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
        raise BundleError(
            f"{bundle.folder}: the row files do not have the sizes that bundle.json gives", "export the bundle again"
        )
