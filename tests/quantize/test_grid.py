"""Integers of floats that were made of them: found again bit for bit, and told from floats that were not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from quantize.grid import recover
from quantize.scheme import INT4_B32


def bfloat16(values: np.ndarray) -> np.ndarray:
    return torch.from_numpy(values).bfloat16().float().numpy()


def released(rows: int, inputs: int, size: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Values as llama.cpp's Q4_0 makes them, rounded to bfloat16, and their codes."""
    rng = np.random.default_rng(0)
    groups = rng.standard_normal((rows, inputs // 32, 32)).astype(np.float32) * np.float32(size)
    largest = np.take_along_axis(groups, np.abs(groups).argmax(-1, keepdims=True), -1)
    scale = (largest / -8).astype(np.float16).astype(np.float32)
    codes = np.clip(np.floor(groups / scale + 8.5), 0, 15) - 8
    return bfloat16((codes * scale).reshape(rows, inputs)), codes.reshape(rows, inputs).astype(np.int8)


def test_every_value_is_given_again():
    values, codes = released(64, 1024)
    made, found = recover(values, INT4_B32)
    assert found.all()
    assert np.array_equal(bfloat16(made.dequantize()), values)
    assert (made.codes() == codes).mean() > 0.999


@pytest.mark.parametrize("size", [1e-4, 0.02, 30.0])
def test_of_any_size(size):
    values, _ = released(32, 256, size=size)
    made, found = recover(values, INT4_B32)
    assert found.all()
    assert np.array_equal(bfloat16(made.dequantize()), values)


def test_blocks_of_zeros_and_a_shorter_last_block():
    values, _ = released(4, 128)
    values = values[:, :112].copy()
    values[1, 32:64] = 0
    made, found = recover(values, INT4_B32)
    assert found.all()
    assert np.array_equal(bfloat16(made.dequantize()), values)


def test_floats_that_were_not_made_so_are_told():
    values = bfloat16(np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32))
    _, found = recover(values, INT4_B32)
    assert not found.any()


def test_one_changed_value_loses_one_block():
    values, _ = released(8, 256)
    values[3, 70] = values[3, 64:96].max() * 0.771
    _, found = recover(bfloat16(values), INT4_B32)
    assert (found.size - found.sum(), found[3, 2]) == (1, False)
