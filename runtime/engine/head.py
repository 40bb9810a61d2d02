"""The two-stage head: all logits from a small table, the best of them again from a finer one.

The graph's tied head holds 4-bit integers; the token rows that the bundle has anyway hold 8 bits.
Recomputing the best few hundred logits from their rows samples like an 8-bit head, for a fraction of
its bytes a token.
"""

from __future__ import annotations

import threading

import numpy as np

from ..arrays import Floats
from ..bundle.row_cache import RowCache
from ..bundle.row_table import RowTable, products
from .sampler import best


class Head:
    """Recomputes the `count` largest logits of a position from the rows of a table."""

    def __init__(self, table: RowTable, count: int, softcap: float) -> None:
        self.count, self.softcap, self.format = count, softcap, table.format
        self.rows = RowCache(table, least=count)
        self._reading = threading.Lock()  # conversations share the rows that were read lately

    def rescore(self, logits: Floats, hidden: Floats) -> Floats:
        """Change in place, and return, logits (n, vocab) after the softcap, which keeps their order;
        hidden (n, hidden) after the final norm."""
        for row, state in zip(logits, hidden, strict=True):
            ids = best(row, self.count)
            with self._reading:
                raw = self.rows.read(ids)
            exact = products(raw, self.format, state)
            row[ids] = np.tanh(exact / self.softcap) * self.softcap if self.softcap else exact
        return logits
