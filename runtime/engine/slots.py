"""Where a token's keys and values go in caches of a fixed number of rows, and which rows a token sees.

A position goes to the row of its number, modulo the rows: a full layer has a row for every position, a
sliding layer a ring that is longer than its window by the tokens of the longest call.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats

Positions = NDArray[np.int64]

UNSEEN = np.float32(-1e9)  # far below any score


@dataclass
class Slots:
    """`held[row]` is the position whose keys and values a row has, or -1.  `window` 0 sees all."""

    rows: int
    window: int
    held: Positions = field(init=False)

    def __post_init__(self) -> None:
        self.held = np.full(self.rows, -1, np.int64)

    def take(self, positions: Positions) -> Positions:
        """Rows for positions (n,); what was there is forgotten."""
        rows: Positions = positions % self.rows
        self.held[rows] = positions
        return rows

    def mask(self, positions: Positions) -> Floats:
        """(n, rows): 0 where a query at a position sees a row, else UNSEEN."""
        distance = positions[:, None] - self.held
        seen = (distance >= 0) & (self.held >= 0)
        if self.window:
            seen &= distance < self.window
        return np.where(seen, np.float32(0), UNSEEN)

    def rewind(self, position: int) -> None:
        """Forget what is at a position, and after it."""
        self.held[self.held >= position] = -1

    def reaches(self, position: int) -> bool:
        """Whether all are held that a query at a position sees before it."""
        first = max(0, position - self.window + 1) if self.window else 0
        wanted = np.arange(first, position)
        return len(wanted) <= self.rows and bool((self.held[wanted % self.rows] == wanted).all())
