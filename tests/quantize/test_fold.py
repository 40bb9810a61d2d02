"""Channel factors: larger for what is used more, and one on average."""

from __future__ import annotations

import numpy as np
import pytest

from quantize.affine import quantize
from quantize.fold import EXPONENT, WIDEST, channel_factors
from quantize.scheme import INT4_B32


def test_factors_follow_the_size_of_the_inputs():
    found = channel_factors(np.array([1, 4, 16], np.float32))
    assert found == pytest.approx(np.array([0.5, 1, 2]) ** EXPONENT)


@pytest.mark.parametrize("moments", [np.zeros(5), np.array([0, 0, 3.0]), np.array([1e-30, 1e30])], ids=str)
def test_factors_are_finite_and_of_mean_one(moments):
    found = channel_factors(moments.astype(np.float32))
    assert np.exp(np.log(found.astype(np.float64)).mean()) == pytest.approx(1, rel=1e-5)
    assert found.max() / found.min() <= WIDEST * 1.001


def test_folding_helps_a_layer_with_loud_channels():
    rng = np.random.default_rng(0)
    loud = np.exp(rng.normal(0, 2, 128))
    x, matrix = rng.standard_normal((500, 128)) * loud, rng.standard_normal((64, 128)).astype(np.float32)
    factors = channel_factors((x**2).mean(0).astype(np.float32))
    plain = quantize(matrix, INT4_B32)[0].dequantize()
    folded = quantize(matrix * factors, INT4_B32)[0].dequantize() / factors
    before, after = (np.square(x @ (matrix - one).T).mean() for one in (plain, folded))
    assert after < 0.7 * before
