"""Integers to bytes: the literal bytes, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from quantize.pack import pack, unpack


def matrices(bits: int) -> st.SearchStrategy[np.ndarray]:
    elements = st.integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return arrays(np.int8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=elements)


@pytest.mark.parametrize(
    ("bits", "codes", "expected"),
    [
        (4, [-8, 7, 0, 1], "f098"),
        (4, [-8, 7, 0, 1, -1], "f09887"),  # an odd row ends with a zero, stored as 8
        (4, [3], "8b"),
        (2, [-2, -1, 0, 1], "e4"),
        (2, [1, 1, 1, 1, -1], "ffa9"),  # the rest of a byte is zeros, stored as 2
        (8, [-128, -1, 0, 127], "80ff007f"),
    ],
)
def test_bytes_are_these(bits, codes, expected):
    assert pack(np.array([codes], np.int8), bits).tobytes().hex() == expected


@pytest.mark.parametrize("bits", [2, 4, 8])
@given(data=st.data())
@settings(deadline=None)
def test_unpack_undoes_pack(bits, data):
    codes = data.draw(matrices(bits))
    packed = pack(codes, bits)
    assert packed.shape == (len(codes), -(-codes.shape[1] * bits // 8))
    assert np.array_equal(unpack(packed, bits, codes.shape[1]), codes)


@given(codes=matrices(4))
@settings(deadline=None)
def test_rows_do_not_share_a_byte(codes):
    assert np.array_equal(pack(codes, 4)[:1], pack(codes[:1], 4))


def test_packing_leaves_its_input_alone():
    codes = np.arange(-8, 8, dtype=np.int8)[None]
    before = codes.copy()
    unpack(pack(codes, 4), 4, 16)
    assert np.array_equal(codes, before)
