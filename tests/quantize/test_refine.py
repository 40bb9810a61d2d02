"""Refinement: never worse than what it began with, and no single change left that helps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from quantize.affine import Quantized, quantize
from quantize.gptq import factor, round_in_order
from quantize.refine import refine
from quantize.scheme import INT4_B32, INT4_B128, Scheme

from .test_gptq import layer


def error(matrix: np.ndarray, refined: Quantized, hessian: np.ndarray) -> np.ndarray:
    """Of what each row answers."""
    off = (matrix - refined.dequantize()).astype(np.float64)
    errors: np.ndarray = ((off @ hessian.astype(np.float64)) * off).sum(1)
    return errors


@pytest.mark.parametrize(
    ("inputs", "scheme"), [(64, INT4_B32), (70, INT4_B32), (300, INT4_B128), (48, Scheme(4)), (96, Scheme(2, 64))]
)
def test_every_row_answers_better_than_after_gptq(inputs, scheme):
    matrix, _, hessian = layer(24, inputs, 400, inputs)
    start, _ = quantize(matrix, scheme, importance=np.diag(hessian).copy())
    rounded, _ = round_in_order(matrix, start, factor(torch.from_numpy(hessian)))
    refined, loss = refine(matrix, rounded, torch.from_numpy(hessian))
    before, after = error(matrix, rounded, hessian), error(matrix, refined, hessian)
    assert (after <= before * (1 + 1e-4)).all()
    assert after.sum() < 0.97 * before.sum()
    assert loss.worst == pytest.approx(np.abs(matrix - refined.dequantize()).max(), rel=1e-3)


def test_after_many_passes_no_integer_can_be_bettered():
    matrix, _, hessian = layer(6, 40, 300, 1)
    refined, _ = refine(matrix, quantize(matrix, INT4_B32)[0], torch.from_numpy(hessian), passes=60)
    off, widened = matrix - refined.dequantize(), np.repeat(refined.scales, 32, 1)[:, :40]
    slopes = off.astype(np.float64) @ hessian
    for step in (-1, 1):
        moved = refined.codes() + step
        gain = 2 * step * widened * slopes - widened**2 * np.diag(hessian)
        allowed = (moved >= INT4_B32.lowest) & (moved <= INT4_B32.highest)
        assert (gain[allowed] <= 1e-4 * np.abs(slopes).max()).all()


def test_scales_stay_in_their_stored_form():
    matrix, _, hessian = layer(24, 96, 400, 3)
    refined, _ = refine(matrix, quantize(matrix, INT4_B32)[0], torch.from_numpy(hessian))
    assert np.array_equal(torch.from_numpy(refined.scales).bfloat16().float().numpy(), refined.scales)


def test_an_input_that_is_never_used_keeps_its_integer():
    matrix, _, hessian = layer(8, 64, 200, 6)
    hessian[7], hessian[:, 7] = 0, 0
    start, _ = quantize(matrix, INT4_B32)
    refined, _ = refine(matrix, start, torch.from_numpy(hessian))
    assert np.array_equal(refined.codes()[:, 7], start.codes()[:, 7])
    assert np.isfinite(refined.dequantize()).all()
