"""Raw rows that were read lately: nine in ten of a step's best tokens were among the best before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arrays import Ids
from .row_table import RowTable

ROWS = 4096  # of real text they hold four of five rows that a head asks for (DECISIONS.md)


class RowCache:
    """First in, first out, in front of a table."""

    def __init__(self, table: RowTable, rows: int = ROWS, least: int = 1) -> None:
        """Holds `rows`, but `least` if that is more: the longest `read`."""
        self.table = table
        self._raw = np.zeros((max(rows, least), table.format.row_bytes), np.uint8)
        self._slot = np.full(table.format.rows, -1, np.int32)  # of each id
        self._id = np.full(len(self._raw), -1, np.int64)  # in each slot
        self._oldest = 0

    def read(self, ids: Ids) -> NDArray[np.uint8]:
        """Return the raw rows (n, row_bytes) of different ids."""
        slots = self._slot[ids]
        rows: NDArray[np.uint8] = self._raw[slots]
        missing = np.flatnonzero(slots < 0)
        if missing.size:
            rows[missing] = self._fetch(ids[missing])
        return rows

    def _fetch(self, ids: Ids) -> NDArray[np.uint8]:
        self.table.prefetch(ids)  # flash answers many at once: 256 that were never read take 16 ms, one by one 43
        raw = self.table.read(ids)
        slots = (self._oldest + np.arange(len(ids))) % len(self._raw)
        self._oldest = (self._oldest + len(ids)) % len(self._raw)
        evicted = self._id[slots]
        self._slot[evicted[evicted >= 0]] = -1
        self._id[slots], self._slot[ids], self._raw[slots] = ids, slots, raw
        return raw
