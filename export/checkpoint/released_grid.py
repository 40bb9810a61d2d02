"""A release of bfloat16 values that was trained for Q4_0: its integers and scales, found again."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from quantize.affine import Floats, Loss, Quantized, quantize
from quantize.grid import recover
from quantize.pack import pack
from quantize.scheme import INT4_B32
from runtime.errors import GemmaError

SCHEME = INT4_B32
PROBED = 1 << 17  # values of a tensor that tell whether it is on the grid
LEAST = 0.999  # of its blocks


def on_grid(values: Floats) -> bool:
    """Whether some rows (n, inputs) of a tensor are of such a release."""
    _, found = recover(values, SCHEME)
    return bool(found.mean() >= LEAST and values.any())


@dataclass
class Recovery:
    """Blocks of a release so far, and those among them that no scale explains; they are rounded anew."""

    blocks: int = 0
    lost: int = 0

    def __call__(self, rows: Floats) -> tuple[Quantized, Loss]:
        """Rows (n, inputs) to integers."""
        made, found = recover(rows, SCHEME)
        self.blocks += found.size
        self.lost += int((~found).sum())
        if not found.all():
            made = merged(made, quantize(rows, SCHEME)[0], found)
        error = rows - made.dequantize()
        squares = [float(np.square(one, dtype=np.float64).sum()) for one in (error, rows)]
        return made, Loss(squares[0], squares[1], float(np.abs(error).max(initial=0)))

    def check(self, where: str) -> None:
        """Say what was lost.  Raises GemmaError for more than a release would lose."""
        if not self.blocks:
            return
        share = 1 - self.lost / self.blocks
        if share < LEAST:
            raise GemmaError(
                f"{where}: {self.lost:,} of {self.blocks:,} blocks of 32 are not on a 4-bit grid",
                "it was not trained for Q4_0; export it with recipe='int4'",
            )
        print(f"integers found again in {share:.4%} of {self.blocks:,} blocks", file=sys.stderr)


def merged(made: Quantized, other: Quantized, found: np.ndarray) -> Quantized:
    """The blocks (rows, groups) that were found, and the others."""
    width = made.scheme.width(made.inputs)
    each = np.repeat(found, width, 1)[:, : made.inputs]
    codes = np.where(each, made.codes(), other.codes())
    return Quantized(
        pack(codes, made.scheme.bits), np.where(found, made.scales, other.scales), made.scheme, made.inputs
    )
