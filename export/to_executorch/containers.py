"""Our integers in the containers that XNNPACK takes, exactly.

XNNPACK takes 8 bits with one float32 scale a row, and 4 bits with one a row or one bfloat16 scale for a
block of a multiple of 32; its scales are positive.  So

- 2 bits go into 4;
- a block is cut into equal ones of a width that it takes;
- 8 bits in blocks c are two matrices of 4 bits: c = 16 · high + low + 8;
- under a negative scale the codes change sign; where the lowest code, which has no positive twin, is
  among them, they are stored less 1.

The 8 and the 1 are the same for a whole block: `offsets` has scale times that for each, and multiplies
the sum of the block's inputs.

Inputs with a static range come with its two ends beside them, so that XNNPACK's rounding by row keeps them as they
are.  The integers of a row, `static`, then have two zeros more, which the ends are multiplied by.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantize.affine import SMALLEST_SCALE, Quantized
from quantize.pack import Codes, pack
from runtime.errors import GemmaError

from ..model.arrays import Array, Floats

XNNPACK_BLOCK = 32
HALF = 4  # bits of a byte's halves
CODES_BYTES = 32 << 20
PART_SEP = "/"  # between a parameter and one of PARTS in the names of a .pte file
STATIC = "static"  # codes, and zeros for the ends of a static range
ENDS = 2
PART_NAMES = ("codes", STATIC, "high", "low", "offsets")


@dataclass(frozen=True)
class CodeMatrix:
    """file: packed codes of N rows of `inputs`, nothing else; scales (N, G) float32, positive."""

    file: Path
    inputs: int
    scales: Floats
    bits: int

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.scales), self.inputs

    @property
    def block(self) -> int:
        """Inputs that share a scale; 0 for those of a row, which are float32 in a file, not bfloat16."""
        count = int(self.scales.shape[1])
        return self.inputs // count if count > 1 else 0

    @property
    def nbytes(self) -> int:
        """The bytes of codes and scales, in a file."""
        return self.file.stat().st_size + self.scales.size * (2 if self.block else 4)


@dataclass(frozen=True)
class Container:
    """One matrix: the sum of its parts, and of `offsets` (N, G) times the sums of inputs, by block."""

    parts: dict[str, CodeMatrix]
    offsets: Array | None  # float16 or float32

    @property
    def nbytes(self) -> int:
        """Bytes in a file."""
        return sum(part.nbytes for part in self.parts.values()) + (0 if self.offsets is None else self.offsets.nbytes)

    @property
    def kind(self) -> str:
        """A name for people: "int4/row", "int4/32", "2 int4/32 + offsets"."""
        first = next(iter(self.parts.values()))
        count = f"{len(self.parts)} " if len(self.parts) > 1 else ""
        return f"{count}int{first.bits}/{first.block or 'row'}{'' if self.offsets is None else ' + offsets'}"


def contained(stored: Quantized, name: str, scratch: Path, *, static: bool = False) -> Container:
    """Integers and scales as XNNPACK takes them; codes are written below `scratch`.

    `static`: inputs have a static range; blocks have no place for its ends, and their inputs are rounded twice.
    Raises GemmaError if there is no exact way.
    """
    width, bits = block_width(stored, name), container_bits(stored)
    scales = spread(stored, width)
    check_scales(scales, name)
    one_a_row = scales.shape[1] == 1
    names = ["high", "low"] if bits == 8 and not one_a_row else [STATIC if static and one_a_row else "codes"]
    files = {part: scratch / f"{name}.{part}" for part in names}
    ends = ENDS if STATIC in names else 0
    offsets = write_codes(stored, scales, bits, list(files.values()), ends)
    size = np.where(scales == 0, np.float32(SMALLEST_SCALE), np.abs(scales))
    factor, inputs = {"high": np.float32(1 << HALF)}, stored.inputs + ends
    parts = {
        part: CodeMatrix(file, inputs, size * factor.get(part, np.float32(1)), bits // len(names))
        for part, file in files.items()
    }
    return Container(parts, shortest(offsets * size) if offsets.any() else None)


def shortest(values: Floats) -> Array:
    """Store as float16 if that is exact: it is for scales of 8 digits and a span of 2¹⁴, and for 8 of these, not 9."""
    halves = values.astype(np.float16)
    return halves if np.array_equal(halves, values) else values


def write_codes(stored: Quantized, scales: Floats, bits: int, paths: list[Path], ends: int = 0) -> Floats:
    """The codes of each part, packed, in pieces of rows, `ends` zeros after each row.

    Gives what they are stored less, by block (N, G).
    """
    offsets, step = np.zeros_like(scales), max(1, CODES_BYTES // stored.inputs)
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in paths]
        for start in range(0, stored.rows, step):
            piece, codes = slice(start, start + step), stored.part(start, start + step).codes()
            shifted, offsets[piece] = positive(codes, scales[piece], bits, middle=8 if len(files) > 1 else 0)
            for file, part in zip(files, nibbles(shifted) if len(files) > 1 else [shifted], strict=True):
                padded = np.pad(part, ((0, 0), (0, ends))).astype(np.int8)
                file.write(pack(padded, bits // len(files)).data)
    return offsets


def container_bits(stored: Quantized) -> int:
    """Four bits need two inputs to a byte."""
    return 8 if stored.scheme.bits == 8 or stored.inputs % 2 else 4


def block_width(stored: Quantized, name: str) -> int:
    """Inputs that share a scale in the file.  Raises GemmaError if XNNPACK has no such block."""
    if stored.scales.shape[1] == 1:
        return stored.inputs
    width = gcd(stored.scheme.width(stored.inputs), stored.inputs)
    if width % XNNPACK_BLOCK:
        raise GemmaError(
            f"{name}: {stored.inputs} inputs in blocks of {stored.scheme.block} are not blocks of a multiple of "
            f"{XNNPACK_BLOCK}, which XNNPACK asks for",
            "choose another recipe, or another target",
        )
    return width


def spread(stored: Quantized, width: int) -> Floats:
    """Scales for blocks of `width`, (N, inputs / width)."""
    scales = np.asarray(stored.scales)
    if scales.shape[1] == 1:
        return scales
    return np.repeat(scales, stored.scheme.width(stored.inputs) // width, 1)[:, : stored.inputs // width]


def check_scales(scales: Floats, name: str) -> None:
    """Raises GemmaError for scales that XNNPACK can not hold as they are."""
    size = np.abs(scales)
    if not np.isfinite(size).all() or ((size > 0) & (size < np.finfo(np.float32).tiny)).any():
        raise GemmaError(f"{name}: a scale is not a normal float, but XNNPACK requires that", "choose another target")
    if scales.shape[1] > 1 and (scales.view(np.uint32) & 0xFFFF).any():
        raise GemmaError(
            f"{name}: the scales of blocks are not bfloat16 values, but XNNPACK stores only those",
            "choose a recipe that decides the scales, or another target",
        )


def positive(codes: Codes, scales: Floats, bits: int, middle: int) -> tuple[NDArray[np.int16], Floats]:
    """Codes (n, K) under scales (n, G) of either sign, to those under positive ones, and the offsets (n, G).

    `middle` is subtracted from all; 1 more where a code has no place else.
    """
    blocks = codes.reshape(*scales.shape, -1).astype(np.int16)  # (n, G, width)
    blocks = np.where(scales[..., None] < 0, -blocks, blocks)
    blocks[scales == 0] = 0
    offsets = (blocks.max(-1) > (1 << (bits - 1)) - 1).astype(np.int16) + np.int16(middle)
    return (blocks - offsets[..., None]).reshape(codes.shape), offsets.astype(np.float32)


def nibbles(codes: NDArray[np.int16]) -> list[NDArray[np.int16]]:
    """Codes of -136 to 119 as 16 · high + low, both of -8 to 7."""
    high = (codes + 8) >> HALF
    return [high, codes - (high << HALF)]
