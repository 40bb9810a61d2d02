"""Rotary positions: only what a call reads is filled, and takes memory."""

import numpy as np
import pytest

from runtime.bundle.manifest import Rope
from runtime.engine.rotary import RotaryRows, frequencies, rotary_rows, rotary_table, untouched
from runtime.machine.resident_memory import resident

ROPE = Rope(theta=10000.0, head_dim=8, rotated_pairs=3)


def test_pairs_that_are_not_rotated_have_frequency_zero():
    assert frequencies(ROPE) == pytest.approx([1.0, 0.1, 0.01, 0.0])


def test_rows_of_positions_are_those_of_the_table():
    cos, sin = rotary_table(ROPE, 1000)
    positions = np.array([999, 0, 31])
    for rows, table in zip(rotary_rows(frequencies(ROPE), positions), (cos, sin), strict=True):
        assert np.array_equal(rows, table[positions])
    assert cos[31, 1] == pytest.approx(np.cos(3.1), abs=1e-6)
    assert sin[:, 3].tolist() == [0.0] * 1000


def test_a_call_fills_the_rows_of_its_tokens():
    rows = RotaryRows(ROPE, 64)
    rows.fill(np.arange(500, 520))
    cos, sin = rotary_table(ROPE, 520)
    assert np.array_equal(rows.cos[:20], cos[500:])
    assert np.array_equal(rows.sin[:20], sin[500:])
    assert not rows.cos[20:].any()


def test_what_is_not_written_takes_no_memory():
    before = resident()
    table = untouched(1 << 20, 64)  # 256 MiB
    table[:10] = 1
    assert resident() - before < 16 << 20
