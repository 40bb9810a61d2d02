"""Whether two tensors have the same values, read a piece at a time and only as far as they do."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from .packed import PackedEntry
from .stored import DTYPES, INTEGERS, TensorEntry, as_torch

PIECE = 8192  # rows that are compared at a time


def same_values(a: TensorEntry, b: TensorEntry) -> bool:
    """Whether two have one shape and the same values, in dtypes that may differ; integers need the same scales."""
    if isinstance(a, PackedEntry) and isinstance(b, PackedEntry):
        return a.scheme == b.scheme and same_values(a.codes, b.codes) and same_values(a.scales, b.scales)
    readable = DTYPES.keys() | INTEGERS.keys()
    if a.shape != b.shape or isinstance(a, PackedEntry) or isinstance(b, PackedEntry):
        return False
    if not {a.dtype, b.dtype} <= readable:
        return False
    with a.opened() as rows, b.opened() as others:
        pieces = (slice(at, at + PIECE) for at in range(0, a.shape[0] if a.shape else 1, PIECE))
        return all(same_rows(rows[piece], others[piece]) for piece in pieces)


def same_rows(a: NDArray[Any], b: NDArray[Any]) -> bool:
    x, y = as_torch(a), as_torch(b)
    return torch.equal(x, y) if x.dtype == y.dtype else torch.equal(x.float(), y.float())
