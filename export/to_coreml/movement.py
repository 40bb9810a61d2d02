"""What MIL's operators that move values do, in numpy.  What Core ML would clamp or leave undefined is a ValueError."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..model.arrays import Array


def reshape(x: Array, shape: Array) -> Array:
    return x.reshape(shape.tolist())


def transpose(x: Array, perm: Array) -> Array:
    return x.transpose(perm.tolist())


def concat(values: Sequence[Array], axis: Array, interleave: Array) -> Array:
    if interleave:
        raise ValueError("interleave, which is not evaluated")
    return np.concatenate(values, int(axis))


def split(x: Array, split_sizes: Array, axis: Array) -> tuple[Array, ...]:
    sizes = split_sizes.tolist()
    if min(sizes) < 1 or sum(sizes) != x.shape[int(axis)]:
        raise ValueError(f"sizes {sizes} of an axis of {x.shape[int(axis)]}")
    return tuple(np.split(x, np.cumsum(sizes)[:-1], int(axis)))


def gather(x: Array, indices: Array, axis: Array, batch_dims: Array, validate_indices: Array) -> Array:
    if batch_dims or validate_indices:
        raise ValueError("batch_dims or validate_indices, which are not evaluated")
    size = x.shape[int(axis)]
    if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < size:
        raise ValueError(f"indices {indices.tolist()} of an axis of {size}")
    return np.take(x, indices, int(axis))


def window(x: Array, begin: Array, end: Sequence[int]) -> tuple[slice, ...]:
    """Slices from begin to end.  Raises ValueError unless they are inside."""
    starts = begin.tolist()
    if len(starts) != x.ndim or len(end) != x.ndim:
        raise ValueError(f"a slice {starts} to {list(end)} of {x.shape}")
    for start, stop, size in zip(starts, end, x.shape, strict=True):
        if not 0 <= start < stop <= size:
            raise ValueError(f"a slice {starts} to {list(end)} of {x.shape}")
    return tuple(slice(start, stop) for start, stop in zip(starts, end, strict=True))


def slice_by_index(x: Array, begin: Array, end: Array) -> Array:
    return x[window(x, begin, end.tolist())]


def slice_by_size(x: Array, begin: Array, size: Array) -> Array:
    return x[window(x, begin, (begin + size).tolist())]


def slice_update(x: Array, update: Array, begin: Array, end: Array) -> Array:
    place = window(x, begin, end.tolist())
    if x[place].shape != update.shape:
        raise ValueError(f"{update.shape} into {x[place].shape}")
    updated = x.copy()
    updated[place] = update
    return updated


MOVEMENT: dict[str, Callable[..., Any]] = {
    "concat": concat,
    "gather": gather,
    "reshape": reshape,
    "slice_by_index": slice_by_index,
    "slice_by_size": slice_by_size,
    "slice_update": slice_update,
    "split": split,
    "transpose": transpose,
}
