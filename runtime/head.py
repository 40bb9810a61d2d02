"""The two-stage head: all logits from a small table, the best of them again from a finer one.

The graph's tied head holds 4-bit integers; the token rows that the bundle has anyway hold 8 bits.
Recomputing the best few hundred logits from their rows samples like an 8-bit head, for a fraction of
its bytes a token.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .row_table import RowTable
from .sampler import best

Floats = NDArray[np.float32]


def rescore(logits: Floats, hidden: Floats, table: RowTable, count: int, softcap: float) -> Floats:
    """Replace the `count` largest logits of each position by those of the table's rows, in place.

    logits (n, vocab) after the softcap, which keeps their order; hidden (n, hidden) after the final
    norm.  Returns logits.
    """
    for row, state in zip(logits, hidden, strict=True):
        ids = best(row, count)
        exact = table.rows(ids)[:, 0] @ state / np.float32(table.multiplier)
        row[ids] = np.tanh(exact / softcap) * softcap if softcap else exact
    return logits
