"""Rounding one input at a time, each error spread over the inputs that are still to be rounded.

GPTQ (Frantar et al., arXiv:2210.17323) with act-order: the inputs that matter most are rounded first.
Groups are static: the scales are chosen before, so that the order of the inputs in storage stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from .affine import Floats, Loss, Quantized, loss_of
from .pack import pack

DAMPING = 0.01  # of the mean of the diagonal
LAZY = 64  # inputs whose errors are applied to the rest together
PANEL = 1024  # columns of an inverse that are solved for together


@dataclass(frozen=True)
class Factor:
    """What all matrices of one input share.

    hessian: (d, d) float32, the mean outer product; order: (d,) inputs, the least used first;
    lower: (d, d) float32, the inverse of the Cholesky factor of the damped Hessian in that order
    """

    hessian: torch.Tensor
    order: torch.Tensor
    lower: torch.Tensor


def factor(hessian: torch.Tensor) -> Factor:
    """Factor the mean outer product of the inputs, (d, d) float32.

    The paper's factor, the upper one of the inverse with the most used inputs first, is `lower` reversed
    both ways: one decomposition instead of two, and no inverse of the Hessian itself.
    """
    # 1) the order of the inputs, the least used first; an input that is never used counts as one
    diagonal = hessian.diagonal().clone()
    diagonal[diagonal <= 0] = 1.0
    order = torch.argsort(diagonal, descending=True, stable=True).flip(0)
    # 2) the damped Hessian in that order
    diagonal += DAMPING * float(diagonal.mean())
    lower, width = torch.empty_like(hessian), len(order)
    for first in range(0, width, PANEL):
        lower[first : first + PANEL] = hessian[order[first : first + PANEL]][:, order]
    lower.diagonal().copy_(diagonal[order])
    # 3) its Cholesky factor, in place
    torch.linalg.cholesky(lower, out=lower)
    # 4) the inverse of the factor, in place: some columns at a time, from the last on
    for first in reversed(range(0, width, PANEL)):
        last = min(first + PANEL, width)
        panel = torch.zeros(last, last - first)  # of the identity
        panel[first:].fill_diagonal_(1)
        lower[first:last, :last] = torch.linalg.solve_triangular(lower.T[:last, :last], panel, upper=True).T
    return Factor(hessian, order, lower)


def round_in_order(matrix: Floats, start: Quantized, shared: Factor) -> tuple[Quantized, Loss]:
    """Choose better integers of a matrix (rows, d) for the scales of `start`.

    In numpy where an operation sees one input of all rows: torch's take three times as long to begin.
    """
    # 1) inputs become rows, in the order of the factor
    scheme, order, lower = start.scheme, shared.order.numpy(), shared.lower.numpy()
    left = torch.from_numpy(matrix.T.copy())[shared.order]  # (d, rows)
    columns, scales = left.numpy(), np.ascontiguousarray(start.scales.T)  # scales (groups, rows)
    group = order // scheme.width(start.inputs)
    codes = np.empty(columns.shape, np.int8)
    spread = np.empty((LAZY, len(matrix)), np.float32)
    # 2) from the most used input on, LAZY of them together
    for last in range(start.inputs, 0, -LAZY):
        first = max(0, last - LAZY)
        errors = torch.empty(last - first, len(matrix))
        for i, error in reversed(list(zip(range(first, last), errors.numpy(), strict=True))):
            # 3) round the input by the scale of its group, in all rows
            code, scale = np.divide(columns[i], scales[group[i]], out=error), scales[group[i]]
            np.minimum(np.maximum(np.rint(code, out=code), scheme.lowest, out=code), scheme.highest, out=code)
            codes[order[i]] = code
            # 4) spread its error over those of the LAZY inputs that are still to be rounded
            np.divide(np.subtract(columns[i], np.multiply(code, scale, out=error), out=error), lower[i, i], out=error)
            columns[first:i] -= np.multiply(lower[i, first:i, None], error, out=spread[: i - first])
        # 5) and the errors of all of them over the inputs before them
        left[:first].addmm_(shared.lower[first:last, :first].T, errors, alpha=-1)
    # 6) integers back in the order of storage
    rounded = replace(start, packed=pack(np.ascontiguousarray(codes.T), scheme.bits))
    return rounded, loss_of(torch.from_numpy(matrix), torch.from_numpy(matrix - rounded.dequantize()))
