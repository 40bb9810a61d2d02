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

GRID_SCHEME = INT4_B32
PROBED = 1 << 17  # values of a tensor that tell whether it is on the grid
LEAST = 0.999  # of its blocks


def on_grid(values: Floats) -> bool:
    """Whether some rows (n, inputs) of a tensor are of such a release."""
    _, explained = recover(values, GRID_SCHEME)
    return bool(explained.mean() >= LEAST and values.any())


@dataclass
class Recovery:
    """Blocks of a release so far, and those among them that no scale explains; they are rounded anew."""

    blocks: int = 0
    lost: int = 0

    def __call__(self, rows: Floats) -> tuple[Quantized, Loss]:
        """Rows (n, inputs) to integers."""
        quantized, explained = recover(rows, GRID_SCHEME)
        self.blocks += explained.size
        self.lost += int((~explained).sum())
        if not explained.all():
            quantized = merged(quantized, quantize(rows, GRID_SCHEME)[0], explained)
        error = rows - quantized.dequantize()
        squares = [float(np.square(values, dtype=np.float64).sum()) for values in (error, rows)]
        return quantized, Loss(squares[0], squares[1], float(np.abs(error).max(initial=0)))

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


def merged(recovered: Quantized, rounded: Quantized, explained: np.ndarray) -> Quantized:
    """Take the blocks that are `explained`, (rows, groups), from the first, and the others from the second."""
    width = recovered.scheme.width(recovered.inputs)
    by_value = np.repeat(explained, width, 1)[:, : recovered.inputs]
    codes = np.where(by_value, recovered.codes(), rounded.codes())
    scales = np.where(explained, recovered.scales, rounded.scales)
    return Quantized(pack(codes, recovered.scheme.bits), scales, recovered.scheme, recovered.inputs)
