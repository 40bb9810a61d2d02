"""GPTQ against the textbook, in float64, one column at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from quantize.affine import quantize
from quantize.gptq import DAMPING, LAZY, factor, round_in_order
from quantize.scheme import INT4_B32, INT4_B128, Scheme


def layer(rows: int, inputs: int, tokens: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A matrix, correlated inputs (tokens, inputs) and their mean outer product."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((tokens, inputs)) @ rng.standard_normal((inputs, inputs)) * rng.uniform(0.1, 3, inputs)
    matrix = rng.standard_normal((rows, inputs)).astype(np.float32)
    return matrix, x, (x.T @ x / tokens).astype(np.float32)


def textbook(matrix: np.ndarray, hessian: np.ndarray, scales: np.ndarray, scheme: Scheme) -> np.ndarray:
    """Algorithm 1 of the paper without blocks: the inverse itself, updated after every column."""
    h = hessian.astype(np.float64)
    h[np.diag_indices_from(h)] += DAMPING * np.mean(np.diag(h))
    order = list(np.argsort(-np.diag(hessian), kind="stable"))
    w, codes = matrix.astype(np.float64), np.zeros(matrix.shape, np.int8)
    each = np.repeat(scales.astype(np.float64), scheme.width(matrix.shape[1]), 1)[:, : matrix.shape[1]]
    while order:
        j, rest = order[0], order[1:]
        inverse = np.linalg.inv(h[np.ix_(order, order)])
        codes[:, j] = np.clip(np.rint(w[:, j] / each[:, j]), scheme.lowest, scheme.highest)
        error = (w[:, j] - codes[:, j] * each[:, j]) / inverse[0, 0]
        w[:, rest] -= np.outer(error, inverse[0, 1:])
        order = rest
    return codes


@pytest.mark.parametrize(("inputs", "scheme"), [(64, INT4_B32), (70, INT4_B32), (160, INT4_B128), (48, Scheme(4))])
def test_integers_are_those_of_the_textbook(inputs, scheme):
    matrix, _, hessian = layer(24, inputs, 400, inputs)
    start, _ = quantize(matrix, scheme, importance=np.diag(hessian).copy())
    made, loss = round_in_order(matrix, start, factor(torch.from_numpy(hessian.copy())))
    expected = textbook(matrix, hessian, start.scales, scheme)
    assert np.mean(made.codes() != expected) < 1e-3  # a tie, now and then, in float32
    assert np.array_equal(made.scales, start.scales)
    assert loss.worst == pytest.approx(np.abs(matrix - made.dequantize()).max())


@pytest.mark.parametrize("inputs", [96, 2 * LAZY + 40])
def test_the_layer_answers_better_than_after_plain_rounding(inputs):
    matrix, x, hessian = layer(32, inputs, 600, 5)
    start, _ = quantize(matrix, INT4_B32)
    made, _ = round_in_order(matrix, start, factor(torch.from_numpy(hessian.copy())))
    before, after = (np.square(x @ (matrix - one.dequantize()).T).mean() for one in (start, made))
    assert after < 0.6 * before


def test_an_input_that_is_never_used_does_no_harm():
    matrix, _, hessian = layer(8, 64, 200, 6)
    hessian[7], hessian[:, 7] = 0, 0
    start, _ = quantize(matrix, INT4_B32)
    made, _ = round_in_order(matrix, start, factor(torch.from_numpy(hessian)))
    assert np.isfinite(made.dequantize()).all()


def test_more_inputs_than_tokens_can_be_rounded():
    matrix, _, hessian = layer(8, 128, 20, 7)
    start, _ = quantize(matrix, INT4_B32)
    made, _ = round_in_order(matrix, start, factor(torch.from_numpy(hessian)))
    assert np.isfinite(made.dequantize()).all()
