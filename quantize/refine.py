"""Scales and integers in turn, each to its best while all others stay: what GPTQ leaves to be won.

Coordinate descent on the error of what a matrix answers (QuantEase, arXiv:2309.01885), begun at GPTQ's
integers; between its passes each scale gets the value that least squares gives it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .affine import TINY, Floats, Loss, Quantized, loss_of, round_scale
from .pack import pack
from .scheme import Scheme

PASSES = 2  # a third takes off less than a fiftieth
LAZY = 64  # inputs, or one group, whose slopes are computed together


def refine(matrix: Floats, start: Quantized, hessian: Tensor, passes: int = PASSES) -> tuple[Quantized, Loss]:
    """Choose better scales and integers of a matrix (rows, d) that is rounded.

    hessian: (d, d), the mean outer product of its inputs
    """
    # 1) inputs become rows, so that those of a group lie together
    scheme, width = start.scheme, start.scheme.width(start.inputs)
    columns, scales, codes = (transposed(array) for array in (matrix, start.scales, start.codes().astype(np.float32)))
    error = columns - codes * np.repeat(scales, width, 0)[: len(columns)]
    together = width * max(1, LAZY // width)
    for first in [*range(0, len(columns), together)] * passes:
        last = min(first + together, len(columns))
        # 2) how the error of the answers changes with each value of a group, or of several
        slopes = product(hessian[first:last].numpy(), error)
        curves, part = hessian[first:last, first:last].numpy(), slice(first, last)
        some = scales[first // width : -(-last // width)]
        # 3) first their scales, then their integers, each to its best while all others stay
        fit_scales(some, codes[part], error[part], slopes, curves, width)
        fit_codes(some, codes[part], error[part], slopes, curves, scheme, width)
    # 4) back to rows of inputs
    refined = replace(
        start,
        packed=pack(np.ascontiguousarray(codes.T.astype(np.int8)), scheme.bits),
        scales=np.ascontiguousarray(scales.T),
    )
    return refined, loss_of(torch.from_numpy(columns), torch.from_numpy(error))


def product(a: Floats, b: Floats) -> Floats:
    """Multiply by torch: numpy's own BLAS has threads that would wait busily beside torch's."""
    return (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()


def transposed(matrix: Floats) -> Floats:
    return np.array(matrix.T, np.float32, order="C")


def fit_scales(scales: Floats, codes: Floats, error: Floats, slopes: Floats, curves: Floats, width: int) -> None:
    """Change scales (groups, rows) in place, and error and slopes with them.

    codes and error: (n, rows); slopes: (n, rows), curves (n, d) @ error
    """
    for group, scale in enumerate(scales):
        part = slice(group * width, (group + 1) * width)
        own = codes[part]
        # 1) the best change of a scale by least squares: its slope over its curve
        slope = (own * slopes[part]).sum(0)
        curve = (own * product(curves[part, part], own)).sum(0)
        best = scale + slope / np.maximum(curve, TINY)
        # 2) rounded, and only where it is still an improvement
        change = round_scale(torch.from_numpy(best)).numpy() - scale
        change *= change * (2 * slope - change * curve) > 0
        # 3) take it, and move error and slopes with it
        scale += change
        error[part] -= change * own
        slopes -= product(curves[:, part], change * own)


def fit_codes(
    scales: Floats, codes: Floats, error: Floats, slopes: Floats, curves: Floats, scheme: Scheme, width: int
) -> None:
    """Change codes (n, rows) in place, and error (n, rows) with them; slopes are used up.  scales: (groups, rows)."""
    spread = np.empty_like(slopes)
    for i, (code, slope, curve) in enumerate(zip(codes, slopes, curves, strict=True)):
        if curve[i] <= 0:
            continue  # an input that is never used
        # 1) the best integer of an input, in all rows
        scale = scales[i // width]
        best = np.divide(slope, scale, out=slope)
        np.rint(np.add(np.multiply(best, 1 / curve[i], out=best), code, out=best), out=best)
        np.minimum(np.maximum(best, scheme.lowest, out=best), scheme.highest, out=best)
        # 2) take it, and move error and the slopes of the inputs after it
        change = np.multiply(best - code, scale)
        code[:] = best
        error[i] -= change
        slopes[i + 1 :] -= np.multiply(curve[i + 1 :, None], change, out=spread[i + 1 :])
