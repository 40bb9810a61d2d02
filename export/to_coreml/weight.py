"""A linear's weight as a Core ML program makes it of stored integers, some rows at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from coremltools.proto import MIL_pb2 as mil
from numpy.typing import NDArray

from ..model.arrays import Bytes, Floats, Shape
from .package import Package, refused
from .weight_bin import unpacked

NAMES = {"constexpr_blockwise_shift_scale": ("data", "scale"), "constexpr_lut_to_dense": ("indices", "lut")}
NIBBLES = np.array([[(byte & 15 ^ 8) - 8, (byte >> 4 ^ 8) - 8] for byte in range(256)], np.float32)
PAIRS = NIBBLES.view(np.uint64).ravel()  # both floats of a byte as one item: found in half the time
QUARTERS = np.array([[byte >> place & 3 for place in (0, 2, 4, 6)] for byte in range(256)], np.uint8)


@dataclass(frozen=True)
class Weight:
    """A matrix (rows, inputs) of integers.

    raw: packed bytes (rows, bytes); factors: scales (rows, groups), or of `uint2` tables (rows, groups, 4)
    record: where its integers are in the weight file
    """

    dtype: str
    shape: Shape
    raw: Bytes
    factors: Floats
    record: int

    @cached_property
    def exact_in_half(self) -> bool:
        """Whether every value is one of float16: 3 digits of an integer and 8 of a scale, within its range."""
        size = np.abs(self.factors)
        short = not (size.view(np.uint32) & 0xFFFF).any()
        return self.dtype == "int4" and short and bool(((size == 0) | ((size >= 2**-14) & (size <= 2**12))).all())

    def codes(self, start: int, stop: int) -> NDArray[np.int8]:
        """Integers (n, inputs) of some rows."""
        raw = self.raw[start:stop]
        if self.dtype == "uint2":
            return (QUARTERS[raw].reshape(len(raw), -1).view(np.int8) - np.int8(2)).astype(np.int8)
        integers = unpacked(raw.reshape(-1), self.dtype, (len(raw), self.shape[1]))
        return integers.astype(np.int8, copy=False)

    def rows(self, start: int, stop: int) -> Floats:
        """Values (n, inputs) of some rows, float32."""
        raw, factors = self.raw[start:stop], self.factors[start:stop]
        count, groups = len(raw), factors.shape[1]
        if self.dtype == "uint2":
            codes = QUARTERS[raw].reshape(count, groups, -1)
            return np.take_along_axis(factors, codes.astype(np.int64), 2).reshape(count, -1)
        values = np.take(PAIRS, raw).view(np.float32) if self.dtype == "int4" else raw.view(np.int8).astype(np.float32)
        values = values.reshape(count, groups, -1)
        values *= factors[:, :, None]
        return values.reshape(count, -1)


def stored_weight(package: Package, operation: mil.Operation, where: str) -> Weight:
    """Raises GemmaError unless integers (rows, inputs) and scales (rows, groups) are there and fit each other."""
    names = NAMES.get(operation.type, ())
    if not names or set(operation.inputs) != set(names):
        raise refused(where, f"is {operation.type} of {sorted(operation.inputs)}")
    data, scale = (operation.inputs[name].arguments[0].value for name in names)
    raw, dtype, shape = package.raw(data, where)
    factors = package.constant(scale, where)
    assert not isinstance(factors, str)
    fits = dtype in ("int4", "int8") and factors.ndim == 2
    if dtype == "uint2":
        fits, factors = factors.ndim == 4 and factors.shape[2:] == (4, 1), factors[..., 0]
    if not fits or len(shape) != 2 or factors.shape[0] != shape[0] or shape[1] % max(1, factors.shape[1]):
        raise refused(where, f"has {dtype} {shape} and scales {factors.shape}")
    return Weight(dtype, shape, raw.reshape(shape[0], -1), factors.astype(np.float32), data.blobFileValue.offset)
