"""How one tensor is stored: bits, and how many inputs share a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scales = Literal["absmax", "least-squares", "positive"]  # how the scales of a matrix are chosen


@dataclass(frozen=True)
class Scheme:
    """Symmetric integers of `bits` bits, one scale per `block` inputs (0: one per output row).

    `bits` 0 keeps the floats as they are.
    """

    bits: int
    block: int = 0

    def __post_init__(self) -> None:
        if self.bits not in (0, 2, 4, 8):
            raise ValueError(f"bits must be 0, 2, 4 or 8, not {self.bits}")
        if self.block < 0 or self.block % 2:
            raise ValueError(f"block must be 0 or an even number of inputs, not {self.block}")

    @property
    def is_float(self) -> bool:
        return self.bits == 0

    @property
    def lowest(self) -> int:
        return -(1 << (self.bits - 1))

    @property
    def highest(self) -> int:
        return (1 << (self.bits - 1)) - 1

    def width(self, inputs: int) -> int:
        """Inputs that share a scale, in a row of `inputs`."""
        return min(self.block, inputs) if self.block else inputs

    def groups(self, inputs: int) -> int:
        """Scales in a row of `inputs`; the last group may be shorter."""
        return -(-inputs // self.width(inputs))

    def packed_bytes(self, inputs: int) -> int:
        """Bytes of integers in a row of `inputs`."""
        return -(-inputs * self.bits // 8)

    def __str__(self) -> str:
        if self.is_float:
            return "float"
        return f"int{self.bits}/{self.block}" if self.block else f"int{self.bits}/row"


FLOAT = Scheme(0)
INT8 = Scheme(8)
INT8_B32 = Scheme(8, 32)
INT4_B32 = Scheme(4, 32)
INT4_B128 = Scheme(4, 128)
INT2_B64 = Scheme(2, 64)
