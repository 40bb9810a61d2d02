"""Keys and values of the layers that own some, as plain arrays that the graph updates in place."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..bundle.manifest import Cache

Rows = NDArray[np.float32] | NDArray[np.int8]
STEP = 1024  # rows by which a full layer's cache grows
TURNS = 4  # ends of turns whose windows a session keeps
SLACK = 64  # rows a window may run over before it is moved to the front


@dataclass(frozen=True)
class Saved:
    """A cache at one time: rows in use, and copies of them where they may be overwritten."""

    length: int
    key: Rows | None = None
    value: Rows | None = None


@dataclass(frozen=True)
class CacheState:
    """All caches of a conversation at one time, and the tokens that were read by then."""

    position: int
    caches: tuple[Saved, ...]


@dataclass
class FullCache:
    """All positions so far; the array grows in steps as a conversation does."""

    spec: Cache
    length: int = 0
    key: Rows = field(init=False)
    value: Rows = field(init=False)

    def __post_init__(self) -> None:
        self.key, self.value = empty(self.spec, 0), empty(self.spec, 0)

    def make_room(self, tokens: int) -> bool:
        """Room for `tokens` more; true if the arrays are new ones."""
        needed = self.length + tokens
        if needed <= self.key.shape[2]:
            return False
        rows = -(-needed // STEP) * STEP
        self.key = regrown(self.key, self.spec, rows, self.length)
        # The old keys are gone before there are new values.
        self.value = regrown(self.value, self.spec, rows, self.length)
        return True

    def rewind(self, position: int, _at: int) -> bool:
        self.length = position
        return True

    def save(self) -> Saved:
        """Rows in use are never written again: their number is enough."""
        return Saved(self.length)

    def restore(self, saved: Saved) -> None:
        self.length = saved.length

    def fill(self, key: Rows, value: Rows) -> None:
        """Take rows (1, kv_heads, rows, head_dim) that another cache held."""
        self.make_room(key.shape[2])
        self.length = put(self, key, value)


@dataclass
class WindowCache:
    """The last positions, oldest first.  When the rows run out, the window moves to the front.

    A move costs the window's rows once in `SLACK` tokens or more; a layer never costs more than
    window - 1 + tokens rows, whatever the length of the conversation.
    """

    spec: Cache
    window: int
    chunk: int
    length: int = 0
    key: Rows = field(init=False)
    value: Rows = field(init=False)

    def __post_init__(self) -> None:
        rows = self.window + max(self.chunk, SLACK)
        self.key, self.value = empty(self.spec, rows), empty(self.spec, rows)

    def make_room(self, tokens: int) -> bool:
        if self.length + tokens > self.window + max(tokens, SLACK):
            kept = self.window - 1
            for array in (self.key, self.value):
                array[:, :, :kept] = array[:, :, self.length - kept : self.length].copy()
            self.length = kept
        return False

    def rewind(self, position: int, at: int) -> bool:
        """Back from position `at`; false if rows that the window needs are gone."""
        first = at - self.length  # position of row 0
        if first > max(0, position - (self.window - 1)):
            return False
        self.length = position - first
        return True

    def save(self) -> Saved:
        return Saved(self.length, self.key[:, :, : self.length].copy(), self.value[:, :, : self.length].copy())

    def restore(self, saved: Saved) -> None:
        self.length = saved.length
        assert saved.key is not None
        assert saved.value is not None
        self.key[:, :, : self.length], self.value[:, :, : self.length] = saved.key, saved.value

    def fill(self, key: Rows, value: Rows) -> None:
        """Take rows (1, kv_heads, rows, head_dim) that another cache held."""
        self.length = put(self, key, value)


KVCache = FullCache | WindowCache


def put(cache: KVCache, key: Rows, value: Rows) -> int:
    rows: int = key.shape[2]
    cache.key[:, :, :rows], cache.value[:, :, :rows] = key, value
    return rows


def empty(spec: Cache, rows: int) -> Rows:
    return np.zeros((1, spec.kv_heads, rows, spec.head_dim), spec.dtype)


def regrown(array: Rows, spec: Cache, rows: int, length: int) -> Rows:
    grown = empty(spec, rows)
    grown[:, :, :length] = array[:, :, :length]
    return grown
