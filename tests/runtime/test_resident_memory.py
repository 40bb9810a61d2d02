"""Memory of this process, as the system counts it."""

import sys

import numpy as np
import pytest

from runtime.resident_memory import give_back, peak_rss, resident

BYTES = 64 << 20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems tell the peak only")


def test_what_is_held_counts_and_what_is_freed_does_not():
    before = resident()
    held = np.ones(BYTES, np.uint8)
    assert resident() - before == pytest.approx(BYTES, rel=0.1)
    assert peak_rss() >= before + 0.9 * BYTES
    del held
    assert resident() - before < 0.1 * BYTES


def test_small_pieces_that_are_freed_go_back():
    pieces = [bytearray(10_000) for _ in range(4_000)]  # 40 MB below malloc's threshold for mappings
    last = bytearray(10_000)
    full = resident()
    del pieces
    give_back()
    assert full - resident() > 20_000_000
    assert len(last) == 10_000
