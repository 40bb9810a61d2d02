"""Memory of this process, as the system counts it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime.machine.resident_memory import peak_rss, resident, trim_heap

BYTES = 64 << 20
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems tell the peak only")


def test_what_is_held_counts_and_what_is_freed_does_not():
    before = resident()
    held = np.ones(BYTES, np.uint8)
    assert resident() - before == pytest.approx(BYTES, rel=0.1)
    assert peak_rss() >= before + 0.9 * BYTES
    del held
    assert resident() - before < 0.1 * BYTES


KEEPS = """
import numpy as np
from runtime.machine.resident_memory import return_blocks_early, resident
if KEEP: return_blocks_early()
np.ones(30 << 20, np.uint8)  # freed at once: glibc now keeps blocks of this size
held = []
for _ in range(20):
    block = np.ones(4 << 20, np.uint8)
    held.append(np.ones(60_000, np.uint8))  # below the threshold, after the block
    del block
print(resident())
"""


def test_blocks_that_are_freed_are_not_kept_between_others():
    """Not of this process: the threshold stays."""
    sizes = []
    for keep in ("True", "False"):
        words = [sys.executable, "-c", KEEPS.replace("KEEP:", f"{keep}:")]
        sizes.append(int(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout))
    assert sizes[1] - sizes[0] > 3_000_000


def test_small_pieces_that_are_freed_go_back():
    pieces = [bytearray(10_000) for _ in range(4_000)]  # 40 MB below malloc's threshold for mappings
    last = bytearray(10_000)
    full = resident()
    del pieces
    trim_heap()
    assert full - resident() > 20_000_000
    assert len(last) == 10_000
