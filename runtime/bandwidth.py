"""How fast this machine's threads read memory: the limit of decoding, which reads all weights for a token.

The largest of many int32 is found by numpy with vector instructions and without Python's lock.  One
comparison for four bytes costs nothing beside the read: it is as fast as a loop of vector loads in C
(DECISIONS.md).
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

LEAST = 256 << 20  # bytes
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")  # of Linux
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
PASSES = 9


def read_bandwidth(threads: int, size: int = 0) -> float:
    """Bytes a second, the best of some passes over `size` bytes of memory that each thread reads a part of.

    The best, as STREAM does it: a limit is what can be had, and other processes only take from it.  size: bytes; 0
    takes more than caches hold.
    """
    size = size or beyond_caches()
    parts = np.array_split(np.ones(size // 4, np.int32), threads)
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(PASSES):
            begun = time.perf_counter()
            list(pool.map(np.max, parts))
            seconds.append(time.perf_counter() - begun)
    return size / min(seconds)


def beyond_caches() -> int:
    """Bytes of which a cache holds a quarter at most, as STREAM asks; where caches are not told, `LEAST`."""
    told = [path.read_text().strip() for path in CACHES.glob("index*/size")]
    return max([LEAST, *(4 * int(size[:-1]) * UNITS[size[-1]] for size in told)])
