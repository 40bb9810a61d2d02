"""Core ML's weight file, version 2: one record and its bytes for each tensor, written as a stream, read with bounds.

    0    count u32, version u32 (2), zeros up to 64
    then, each at a multiple of 64:
         0xDEADBEEF u32, dtype u32, bytes u64, offset of the bytes u64, bits of padding u64, zeros up to 64
         the bytes, right behind

A program refers to a tensor by the offset of its record.  Integers of less than eight bits are packed
along the flattened tensor, low bits first; `int4` is two's complement.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.errors import GemmaError

from ..model.arrays import Bytes

MAGIC, VERSION, ALIGNMENT = 0xDEADBEEF, 2, 64
HEADER, RECORD = struct.Struct("<II"), struct.Struct("<IIQQQ")
CODES = {"float16": 1, "float32": 2, "uint8": 3, "int8": 4, "int4": 8, "uint2": 10, "int32": 14}
BITS = {"float16": 16, "float32": 32, "uint8": 8, "int8": 8, "int4": 4, "uint2": 2, "int32": 32}


def bytes_of(dtype: str, shape: tuple[int, ...]) -> int:
    """Bytes of a packed tensor."""
    return -(-math.prod(shape) * BITS[dtype] // 8)


class WeightWriter:
    """Writes tensors one after another; what was written is never in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        self._count = 0

    def __enter__(self) -> WeightWriter:
        self._file.write(bytes(ALIGNMENT))
        return self

    def __exit__(self, *_: object) -> None:
        self._file.seek(0)
        self._file.write(HEADER.pack(self._count, VERSION))
        self._file.close()

    def write(self, dtype: str, shape: tuple[int, ...], pieces: Iterable[NDArray[np.generic]]) -> int:
        """The packed bytes of one tensor, in pieces; gives the offset of its record.

        Raises ValueError if the pieces are not as many bytes as the shape asks for.
        """
        size, record = bytes_of(dtype, shape), self._pad()
        padding = size * 8 - math.prod(shape) * BITS[dtype]
        fields = RECORD.pack(MAGIC, CODES[dtype], size, record + ALIGNMENT, padding)
        self._file.write(fields.ljust(ALIGNMENT, b"\0"))
        written = sum(self._file.write(np.ascontiguousarray(piece).data.cast("B")) for piece in pieces)
        if written != size:
            raise ValueError(f"{written} bytes for a tensor {dtype} {shape}, which has {size}")
        self._pad()
        self._count += 1
        return record

    def _pad(self) -> int:
        self._file.write(bytes(-self._file.tell() % ALIGNMENT))
        return self._file.tell()


class WeightFile:
    """An open weight file, mapped: of the bytes a caller touches, and no more, are in memory."""

    def __init__(self, path: Path) -> None:
        """Raises GemmaError if the file is not one of version 2."""
        self.path = path
        try:
            self._bytes: Bytes = np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise self._refused(f"can not be read: {error}") from error
        if len(self._bytes) < ALIGNMENT:
            raise self._refused(f"has {len(self._bytes)} bytes and no header")
        _, version = HEADER.unpack(self._bytes[: HEADER.size].tobytes())
        if version != VERSION:
            raise self._refused(f"has version {version}, and this reads {VERSION}")

    def read(self, record: int, dtype: str, shape: tuple[int, ...]) -> Bytes:
        """The packed bytes of the tensor whose record is at `record`.

        Raises GemmaError unless the record is inside the file and says what `dtype` and `shape` ask for.
        """
        total, expected = len(self._bytes), bytes_of(dtype, shape)
        if record % ALIGNMENT or not 0 < record <= total - ALIGNMENT:
            raise self._refused(f"has no record at {record}")
        magic, code, size, start, _ = RECORD.unpack(self._bytes[record : record + RECORD.size].tobytes())
        if magic != MAGIC or code != CODES.get(dtype) or size != expected:
            raise self._refused(f"has at {record} not a tensor {dtype} {shape}")
        if start > total or size > total - start:
            raise self._refused(f"has {total} bytes, and the tensor at {record} ends at {start + size}")
        return self._bytes[start : start + size]

    def _refused(self, what: str) -> GemmaError:
        return GemmaError(f"{self.path}: the weight file {what}", "export the bundle again")


def unpacked(raw: Bytes, dtype: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Packed bytes to an array of `shape`; int4 as int8, uint2 as uint8."""
    bits = BITS[dtype]
    if bits >= 8:
        return np.ascontiguousarray(raw).view(dtype).reshape(shape)
    mask = np.uint8((1 << bits) - 1)
    fields = np.stack([(raw >> np.uint8(place)) & mask for place in range(0, 8, bits)], -1)
    values = fields.reshape(-1)[: math.prod(shape)].reshape(shape)
    if dtype == "int4":
        return ((values ^ np.uint8(8)).view(np.int8) - np.int8(8)).astype(np.int8)
    return values
