"""Rounding to integers: bounds, scales, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantize.affine import SCALES, SMALLEST_SCALE, Loss, Quantized, quantize
from quantize.scheme import INT4_B32, INT4_B128, INT8, INT8_B32, Scheme

SCHEMES = [INT4_B32, INT4_B128, INT8, INT8_B32, Scheme(4), Scheme(4, 6)]


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    """Small and large, smooth and with outliers; widths around a block's."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 5, 6, 31, 32, 33, 64, 70, 129])))
    size, tail = draw(st.sampled_from([0, 1e-6, 1e-3, 1, 1e4])), draw(st.integers(1, 5))
    return (size * rng.standard_normal(shape) ** tail).astype(np.float32)


few = settings(max_examples=20, deadline=None)


def widened(made: Quantized) -> np.ndarray:
    return np.repeat(made.scales, made.scheme.width(made.inputs), 1)[:, : made.inputs]


def squared(matrix: np.ndarray, made: Quantized) -> float:
    return float(np.square(matrix - made.dequantize(), dtype=np.float64).sum())


def gaussian(rows: int, inputs: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, inputs), np.float32)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("scales", SCALES)
@given(matrix=matrices())
@few
def test_error_is_half_a_step_where_not_clipped(scheme, scales, matrix):
    made, _ = quantize(matrix, scheme, scales)
    codes, step = made.codes(), widened(made)
    assert codes.min() >= scheme.lowest
    assert codes.max() <= scheme.highest
    inside = (codes > scheme.lowest) & (codes < scheme.highest)
    assert (np.abs(matrix - made.dequantize()) <= 0.5001 * np.abs(step))[inside].all()


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("scales", SCALES)
@given(matrix=matrices())
@few
def test_scales_are_bfloat16_values_of_at_least_the_smallest(scheme, scales, matrix):
    made, _ = quantize(matrix, scheme, scales)
    assert not (made.scales.view(np.uint32) & 0xFFFF).any()
    assert (np.abs(made.scales) >= SMALLEST_SCALE).all()


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@given(matrix=matrices())
@few
def test_least_squares_is_never_worse_than_absmax(scheme, matrix):
    best, plain = (squared(matrix, quantize(matrix, scheme, scales)[0]) for scales in ("least-squares", "absmax"))
    assert best <= plain * (1 + 1e-5)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@given(matrix=matrices())
@few
def test_positive_scales_are_positive_and_never_worse_than_absmax(scheme, matrix):
    made = {scales: quantize(matrix, scheme, scales)[0] for scales in SCALES}
    assert (made["positive"].scales > 0).all()
    assert squared(matrix, made["positive"]) <= squared(matrix, made["absmax"]) * (1 + 1e-5)


def test_least_squares_beats_absmax_at_four_bits():
    matrix = gaussian(64, 256)
    best, plain = (quantize(matrix, INT4_B32, scales)[1] for scales in ("least-squares", "absmax"))
    assert best.relative < 0.9 * plain.relative


@pytest.mark.parametrize("sign", [1, -1])
def test_values_on_a_grid_come_back_exactly(sign):
    """The lowest code has no positive twin; a scale of the other sign lets it serve both ways."""
    matrix = np.tile(np.arange(-8, 8, dtype=np.float32), 2)[None] * np.float32(sign * 0.375)
    made, loss = quantize(matrix, INT4_B32)
    assert np.array_equal(made.dequantize(), matrix)
    assert np.sign(made.scales) == sign
    assert loss.worst == 0


def test_the_last_group_may_be_shorter():
    matrix = gaussian(5, 70)
    made, _ = quantize(matrix, INT4_B32)
    assert made.scales.shape == (5, 3)
    assert made.packed.shape == (5, 35)
    assert np.abs(matrix - made.dequantize()).max() < 0.5


def test_a_group_does_not_depend_on_its_neighbours():
    matrix, other = gaussian(5, 70), gaussian(5, 70, seed=1)
    other[:, 64:] = matrix[:, 64:]
    made, again = (quantize(one, INT4_B32)[0] for one in (matrix, other))
    assert np.array_equal(made.scales[:, 2], again.scales[:, 2])
    assert np.array_equal(made.codes()[:, 64:], again.codes()[:, 64:])
    assert not np.array_equal(made.scales[:, :2], again.scales[:, :2])


def test_rows_quantized_in_pieces_are_those_of_the_whole():
    matrix = gaussian(50, 64)
    whole, loss = quantize(matrix, INT4_B32)
    pieces, summed = quantize(matrix, INT4_B32, piece_bytes=7 * 4 * 64)
    assert np.array_equal(whole.packed, pieces.packed)
    assert np.array_equal(whole.scales, pieces.scales)
    assert summed.squared_error == pytest.approx(loss.squared_error, rel=1e-5)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_loss_is_what_the_integers_lost(scheme):
    matrix = gaussian(20, 70)
    made, loss = quantize(matrix, scheme)
    error = matrix - made.dequantize()
    assert loss.worst == pytest.approx(np.abs(error).max(), rel=1e-5)
    assert loss.relative == pytest.approx(np.sqrt((error**2).sum() / (matrix**2).sum()), rel=1e-4)


def test_losses_add_up():
    assert Loss(1, 4, 0.5) + Loss(3, 12, 0.25) == Loss(4, 16, 0.5)
    assert (Loss(1, 4, 0.5) + Loss(3, 12, 0.25)).relative == 0.5
    assert Loss().relative == 0


def test_zeros_stay_zeros():
    made, loss = quantize(np.zeros((3, 40), np.float32), INT4_B32)
    assert not made.dequantize().any()
    assert (made.scales == SMALLEST_SCALE).all()
    assert loss.relative == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    matrix = gaussian(4, 32)
    matrix[2, 7] = value
    with pytest.raises(ValueError, match="NaN or Inf"):
        quantize(matrix, INT8)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_bytes_are_counted_as_stored(scheme):
    made, _ = quantize(gaussian(6, 70), scheme)
    assert made.nbytes == 6 * (scheme.packed_bytes(70) + 2 * scheme.groups(70))
    assert made.rows == 6


@pytest.mark.parametrize(("bits", "block"), [(3, 0), (16, 0), (4, -2), (4, 33)])
def test_a_scheme_that_can_not_be_stored_is_refused(bits, block):
    with pytest.raises(ValueError, match=r"must be 0"):
        Scheme(bits, block)
