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

from .available_memory import available

LEAST = 256 << 20  # bytes
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")  # of Linux
PASSES = 9


def read_bandwidth(threads: int, size: int = 0) -> float:
    """Bytes a second, the best of some passes over `size` bytes of memory that each thread reads a part of.

    The best, as STREAM does it: a limit is what can be had, and other processes only take from it.
    Without a size, so many that caches hold few of them.
    """
    size = size or beyond_caches(available())
    parts = np.array_split(np.ones(size // 4, np.int32), threads)
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(PASSES):
            begun = time.perf_counter()
            list(pool.map(np.max, parts))
            seconds.append(time.perf_counter() - begun)
    return size / min(seconds)


def beyond_caches(room: int, caches: Path = CACHES) -> int:
    """Bytes of which a cache holds a quarter, as STREAM asks, but no more than half of `room` bytes.

    Linux tells caches in KiB, as "266240K"; where they are not told, `LEAST`.
    """
    sizes = [int(path.read_text().strip().removesuffix("K")) << 10 for path in caches.glob("index*/size")]
    return min(max([LEAST, *(4 * size for size in sizes)]), room // 2)
