"""How fast this machine's threads read memory: the limit of decoding, which reads all weights for a token.

The largest of many int32 is found by numpy with vector instructions and without Python's lock.  One
comparison for four bytes costs nothing beside the read: it is as fast as a loop of vector loads in C
(DECISIONS.md).
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

SIZE = 256 << 20  # bytes: more than most caches hold; servers have 260 MB (DECISIONS.md)
PASSES = 9


def read_bandwidth(threads: int, size: int = SIZE) -> float:
    """Bytes a second, the best of some passes over memory that each thread reads a part of.

    The best, as STREAM does it: a limit is what can be had, and other processes only take from it.
    """
    parts = np.array_split(np.ones(size // 4, np.int32), threads)
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(PASSES):
            begun = time.perf_counter()
            list(pool.map(np.max, parts))
            seconds.append(time.perf_counter() - begun)
    return size / min(seconds)
