"""Pages of a mapped file that are in memory for nothing.

onnxruntime packs weights into memory of its own, and leaves the scales of the file mapped: a
twelfth of a model with blocks of 32.  What it reads again comes back from the file by itself.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from pathlib import Path

MADV_DONTNEED = 4  # <sys/mman.h>
SMAPS = Path("/proc/self/smaps")
ADDRESSES = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ")


def drop_clean_pages(path: Path) -> int:
    """Give back resident pages of a mapped file; returns bytes.  Does nothing but on Linux."""
    if sys.platform != "linux":
        return 0
    libc, freed = ctypes.CDLL(None), 0
    for first, last, resident in unchanged(SMAPS.read_text(encoding="utf-8", errors="replace"), str(path.resolve())):
        refused = libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), MADV_DONTNEED)
        freed += 0 if refused else resident
    return freed


def unchanged(smaps: str, name: str) -> Iterator[tuple[int, int, int]]:
    """(first, last address, bytes resident) of the mappings of a file that no page was written in:
    what was written would be lost."""
    mapping: tuple[int, int] | None = None
    resident = 0
    for line in smaps.splitlines():
        if match := ADDRESSES.match(line):
            mapping = (int(match[1], 16), int(match[2], 16)) if line.endswith(f" {name}") else None
        elif mapping and line.startswith("Rss:"):
            resident = int(line.split()[1]) * 1024
        elif mapping and line.startswith("Anonymous:"):
            if resident and line.split()[1] == "0":
                yield *mapping, resident
            mapping = None
