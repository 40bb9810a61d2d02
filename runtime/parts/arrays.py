"""Whether named arrays are those that the manifest says: names, types, and sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from ..bundle.manifest import Tensor
from ..errors import GemmaError

Arrays = Mapping[str, NDArray[Any]]
EXPORT_AGAIN = "export the bundle again"
DTYPES = ("float32", "float16", "int8", "uint8", "int32", "int64", "bool")


def check_arrays(source: str, tensors: Sequence[Tensor], arrays: Arrays, sizes: dict[str, int], most: int = 0) -> None:
    """Check arrays against the tensors of a manifest; `sizes` gets those that vary, by their words.

    A word that `sizes` has already must have that size again.  most: the largest that a size may be which varies,
    0 for no bound.  Raises GemmaError, which begins with `source`, for the first array that does not fit.
    """
    expected = [tensor.name for tensor in tensors]
    if sorted(arrays) != sorted(expected):
        shown = ", ".join(sorted(arrays)) or "none"
        raise GemmaError(f"{source}: arrays {shown}, where {', '.join(expected) or 'none'} belong", "name them so")
    for tensor in tensors:
        check_array(source, tensor, arrays[tensor.name], sizes, most)


def check_array(source: str, tensor: Tensor, array: NDArray[Any], sizes: dict[str, int], most: int) -> None:
    """Check one array: its type, its rank, and each of its sizes.  Raises GemmaError as `check_arrays` does."""
    if array.dtype.name != tensor.dtype:
        raise GemmaError(f"{source}: {tensor.name} is {array.dtype.name}, not {tensor.dtype}", f"use {tensor.dtype}")
    fits = len(array.shape) == len(tensor.shape)
    for size, stated in zip(array.shape, tensor.shape, strict=False):
        wanted = sizes.setdefault(stated, size) if isinstance(stated, str) else stated
        fits = fits and size == wanted
        if isinstance(stated, str) and most and size > most:
            raise GemmaError(f"{source}: {size} {stated} of {tensor.name}, more than {most}", "give it in pieces")
    if not fits:
        stated = ", ".join(map(str, tensor.shape))
        raise GemmaError(f"{source}: {tensor.name} is {array.shape}, not ({stated})", "check its sizes")
