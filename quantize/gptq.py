"""Rounding one input at a time, each error spread over the inputs that are still to be rounded.

GPTQ (Frantar et al., arXiv:2210.17323) with act-order: the inputs that matter most are rounded first.
Groups are static: the scales are chosen before, so that the order of the inputs in storage stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .affine import Floats, Loss, Quantized
from .pack import pack

DAMPING = 0.01  # of the mean of the diagonal
LAZY = 128  # inputs whose errors are applied to the rest together
DOUBLE = 4096  # inputs up to which the factor is computed in float64


@dataclass(frozen=True)
class Factor:
    """What all matrices of one input share.

    order: (d,) inputs, the most used first; upper: (d, d) float32, the Cholesky factor of the inverse
    of the damped Hessian in that order
    """

    order: torch.Tensor
    upper: torch.Tensor


def factor(hessian: torch.Tensor) -> Factor:
    """Mean outer product of the inputs, (d, d) float32, which is overwritten."""
    diagonal = hessian.diagonal()
    diagonal[diagonal <= 0] = 1.0
    order = torch.argsort(diagonal, descending=True, stable=True)
    diagonal += DAMPING * float(diagonal.mean())
    ordered = hessian[order][:, order]
    if len(order) <= DOUBLE:
        ordered = ordered.double()
    torch.linalg.cholesky(ordered, out=ordered)
    torch.cholesky_inverse(ordered, out=ordered)
    return Factor(order, torch.linalg.cholesky(ordered, upper=True).float())


def round_in_order(matrix: Floats, start: Quantized, shared: Factor) -> tuple[Quantized, Loss]:
    """A matrix (rows, d) with the scales of `start`, and better integers."""
    scheme, inputs = start.scheme, start.inputs
    width = scheme.width(inputs)
    columns = torch.from_numpy(np.ascontiguousarray(matrix.T))[shared.order]  # (d, rows)
    scales = torch.from_numpy(np.ascontiguousarray(start.scales.T))  # (groups, rows)
    group = shared.order // width
    codes = torch.empty(columns.shape, dtype=torch.int8)
    for first in range(0, inputs, LAZY):
        last = min(first + LAZY, inputs)
        block, upper = columns[first:last], shared.upper[first:last, first:last]
        errors = torch.empty_like(block)
        for i in range(last - first):
            scale = scales[group[first + i]]
            code = (block[i] / scale).round_().clamp_(scheme.lowest, scheme.highest)
            codes[shared.order[first + i]] = code.to(torch.int8)
            errors[i] = torch.addcmul(block[i], code, scale, value=-1).div_(upper[i, i])
            block[i + 1 :].addr_(upper[i, i + 1 :], errors[i], alpha=-1)
        columns[last:].addmm_(shared.upper[first:last, last:].T, errors, alpha=-1)
    packed = pack(np.ascontiguousarray(codes.numpy().T), scheme.bits)
    made = Quantized(packed, start.scales, scheme, inputs)
    return made, loss_of(matrix, made)


def loss_of(matrix: Floats, made: Quantized) -> Loss:
    error = matrix - made.dequantize()
    return Loss(
        float(np.square(error, dtype=np.float64).sum()),
        float(np.square(matrix, dtype=np.float64).sum()),
        float(np.abs(error).max(initial=0)),
    )
