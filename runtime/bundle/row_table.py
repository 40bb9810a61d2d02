"""Row files: per-layer and token embeddings that stay on flash.  FORMAT.md draws the bytes.

A row holds all that one token needs: packed integers of all layers, then their scales.  Rows are read
one by one from the file, never mapped: a kernel maps up to a megabyte around each row that is touched,
a read costs the row (DECISIONS.md).  The page cache keeps what is used often.
"""

from __future__ import annotations

import os
import resource
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats, Ids
from ..errors import BundleError

MAGIC = b"GEMROWS1"
HEADER = struct.Struct("<8s9I")
VERSION = 2
START = 4096  # rows begin on a page
BLOCKS_A_PAGE = 8  # getrusage counts blocks of 512 bytes


@dataclass(frozen=True)
class RowFormat:
    """Geometry of a row file.

    bits: 2, 4 or 8 (integers with scales), 16 (bfloat16 values) or 32 (float32 values)
    scales: scales per layer; each covers dim / scales values, rounded up
    scale_bits: 16 (bfloat16) or 32 (float32, of a checkpoint that is released as integers)
    """

    rows: int
    layers: int
    dim: int
    bits: int
    scales: int
    scale_bits: int = 16

    @property
    def layer_bytes(self) -> int:
        return self.dim * self.bits // 8

    @property
    def row_bytes(self) -> int:
        """Padded to four bytes."""
        return -(-self.layers * (self.layer_bytes + self.scale_bytes) // 4) * 4

    @property
    def scale_bytes(self) -> int:
        """Return the bytes of a layer's scales."""
        return self.scales * self.scale_bits // 8

    @property
    def width(self) -> int:
        """Values that share a scale."""
        return -(-self.dim // self.scales) if self.scales else self.dim

    @property
    def nbytes(self) -> int:
        return START + self.rows * self.row_bytes

    def header(self) -> bytes:
        shape = (self.rows, self.row_bytes, self.layers, self.dim, self.bits, self.scales, self.scale_bits)
        return HEADER.pack(MAGIC, VERSION, *shape, START).ljust(START, b"\0")

    @classmethod
    def parse(cls, head: bytes, path: Path, size: int) -> RowFormat:
        """Raises GemmaError unless header and file size agree."""
        if len(head) < HEADER.size or head[:8] != MAGIC:
            raise BundleError(f"{path} is not a row file", "export the bundle again")
        version, rows, row_bytes, layers, dim, bits, scales, scale_bits, start = HEADER.unpack_from(head)[1:]
        if version != VERSION or start != START:
            hint = "upgrade gemma-edge" if version > VERSION else "export the bundle again"
            raise BundleError(f"{path} has the row file version {version}, but this gemma-edge reads {VERSION}", hint)
        form = cls(rows, layers, dim, bits, scales, scale_bits)
        sound = bits in (2, 4, 8, 16, 32) and layers and dim and dim * bits % 8 == 0 and (scales > 0) == (bits < 16)
        if not sound or scale_bits not in (16, 32) or form.row_bytes != row_bytes or form.nbytes != size:
            raise BundleError(
                f"{path} has {size} bytes, which is wrong for {rows} rows of {row_bytes} bytes",
                "export the bundle again",
            )
        return form


@dataclass
class Counters:
    """What the flash was asked for."""

    rows: int = 0
    bytes: int = 0
    faults: int = 0  # pages of 4 KiB that had to come from flash


class RowTable:
    """An open row file; `rows(ids)` gives float32 values."""

    def __init__(self, path: Path, multiplier: float = 1.0) -> None:
        self._file = path.open("rb", buffering=0)
        self.format = RowFormat.parse(self._file.read(HEADER.size), path, path.stat().st_size)
        self.multiplier = multiplier
        self.path = path
        self.counters = Counters()
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)

    def close(self) -> None:
        """Close the file; no row can be read after that."""
        self._file.close()

    def prefetch(self, ids: Ids) -> None:
        """Ask the kernel for many rows, all at once, before they are needed."""
        if not hasattr(os, "posix_fadvise"):
            return
        size, before = self.format.row_bytes, blocks_read()
        for row in np.unique(ids[(ids >= 0) & (ids < self.format.rows)]).tolist():
            os.posix_fadvise(self._file.fileno(), START + row * size, size, os.POSIX_FADV_WILLNEED)
        self.counters.faults += pages(blocks_read() - before)

    def rows(self, ids: Ids, layers: slice = slice(None)) -> Floats:
        """Return the rows of some tokens, (n, layers, dim) float32, multiplied out.

        Raises GemmaError for an id outside the table.
        """
        taken = self.read(ids)
        first, stop, _ = layers.indices(self.format.layers)
        return decode(taken, self.format, first, stop, self.multiplier)

    def read(self, ids: Ids) -> NDArray[np.uint8]:
        """Raw rows, (n, row_bytes).

        Raises GemmaError for an id outside the table, or if the file was cut since it was opened.
        """
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < self.format.rows:
            bad = ids[(ids < 0) | (ids >= self.format.rows)][0]
            raise BundleError(
                f"token id {bad} is out of range: {self.path.name} has {self.format.rows} rows",
                "use this bundle's tokenizer",
            )
        size, file, before = self.format.row_bytes, self._file.fileno(), blocks_read()
        data = b"".join([os.pread(file, size, START + row * size) for row in ids.tolist()])
        self.counters.faults += pages(blocks_read() - before)
        if len(data) != len(ids) * size:
            raise BundleError(f"{self.path} was cut short while it was in use", "fetch or export the bundle again")
        self.counters.rows += len(ids)
        self.counters.bytes += len(data)
        return np.frombuffer(data, np.uint8).reshape(len(ids), size)


def blocks_read() -> int:
    """Count the blocks that this thread asked flash for."""
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_inblock


def pages(blocks: int) -> int:
    return -(-blocks // BLOCKS_A_PAGE)


def decode(taken: NDArray[np.uint8], form: RowFormat, first: int, stop: int, multiplier: float) -> Floats:
    """Decode raw rows (n, row_bytes) to (n, stop - first, dim) float32."""
    count, layers = len(taken), stop - first
    body = np.ascontiguousarray(taken[:, first * form.layer_bytes : stop * form.layer_bytes])
    if form.bits == 32:
        return body.view(np.float32).reshape(count, layers, form.dim) * np.float32(multiplier)
    if form.bits == 16:
        return bfloat16(body).reshape(count, layers, form.dim) * np.float32(multiplier)
    values = integers(body, form.bits).reshape(count, layers, form.dim)
    scales = scales_of(taken, form, first, stop) * np.float32(multiplier)
    if form.scales == 1:
        return values.astype(np.float32) * scales
    widened: Floats = np.repeat(scales, form.width, axis=-1)[..., : form.dim]
    return values.astype(np.float32) * widened


def products(taken: NDArray[np.uint8], form: RowFormat, state: Floats) -> Floats:
    """Multiply raw rows (n, row_bytes) of one layer by a state (dim,), to (n,) float32.

    By einsum and not by BLAS, whose threads wait busily for a tenth of a second after a product, and take
    a core from the next step: with them E4B took 201 ms a step, without 142 (DECISIONS.md).
    """
    if form.scales != 1:
        sums: Floats = np.einsum("rd,d->r", decode(taken, form, 0, 1, 1.0)[:, 0], state)
        return sums
    # One scale a row goes over the sum: a pass over all values less.
    values = integers(np.ascontiguousarray(taken[:, : form.layer_bytes]), form.bits)
    sums = np.einsum("rd,d->r", values.reshape(len(taken), form.dim), state)
    return sums * scales_of(taken, form, 0, 1)[:, 0, 0]


def scales_of(taken: NDArray[np.uint8], form: RowFormat, first: int, stop: int) -> Floats:
    """Return scales (n, stop - first, scales) float32."""
    begin = form.layers * form.layer_bytes + first * form.scale_bytes
    raw = np.ascontiguousarray(taken[:, begin : begin + (stop - first) * form.scale_bytes])
    values = bfloat16(raw) if form.scale_bits == 16 else raw.view(np.float32)
    return values.reshape(len(taken), stop - first, form.scales)


def bfloat16(raw: NDArray[np.uint8]) -> Floats:
    return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def integers(raw: NDArray[np.uint8], bits: int) -> NDArray[np.int8]:
    """Unpack (n, bytes) to (n, values) int8: low bits first, stored with half added; bytes are two's complement."""
    if bits == 8:
        return raw.view(np.int8)
    mask = np.uint8((1 << bits) - 1)
    fields = np.stack([(raw >> np.uint8(place)) & mask for place in range(0, 8, bits)], -1).view(np.int8)
    return fields - np.int8(1 << (bits - 1))
