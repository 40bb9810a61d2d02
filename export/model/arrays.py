"""The types of arrays, named once for the whole room, and how much of one is in memory at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Bytes = NDArray[np.uint8]
Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Shape = tuple[int, ...]

PIECE_ROWS = 8192  # rows of a matrix that are converted at a time
