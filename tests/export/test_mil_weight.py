"""When the values of a weight are those of float16 without rounding."""

from __future__ import annotations

import numpy as np
import pytest

from export.to_coreml.weight import Weight


def weight(scales: np.ndarray, dtype: str = "int4") -> Weight:
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (len(scales), 32), dtype=np.uint8)
    return Weight(dtype, (len(scales), 64 if dtype == "int4" else 32), raw, scales, 0)


def short(scales: np.ndarray) -> np.ndarray:
    """With the digits of bfloat16."""
    return (scales.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def rounded(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float32)


def test_integers_of_4_bits_under_short_scales_are_exact():
    scales = short(np.random.default_rng(1).uniform(2**-14, 1, (40, 4)) * np.array([1, -1, 1, -1]))
    scales[3] = 0
    found = weight(scales)
    assert found.exact_in_half
    assert np.array_equal(found.rows(0, 40), rounded(found.rows(0, 40)))


@pytest.mark.parametrize("scale", [0.01, 2.0**-15, 2.0**13, np.inf])
def test_others_may_not_be(scale):
    scales = np.full((4, 2), 0.5, np.float32)
    scales[2, 1] = scale
    assert not weight(scales).exact_in_half


def test_integers_of_8_bits_are_not():
    scales = np.full((4, 2), 2.0**-8 * 1.5, np.float32)
    assert not weight(scales, "int8").exact_in_half
