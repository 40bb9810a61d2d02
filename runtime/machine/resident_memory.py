"""How much memory this process holds now, and held at the most; and giving back what it holds for later."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


def resident() -> int:
    """Bytes of memory this process holds; outside Linux the most that it ever held."""
    if sys.platform == "linux":
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return peak_rss()


def peak_rss() -> int:
    """Bytes; the largest the process has been.

    On Linux VmHWM: what getrusage says begins with the size of the process that started this one.
    """
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def return_blocks_early() -> None:
    """From now on blocks of a megabyte go back to the system as soon as they are freed.

    By itself glibc learns to keep blocks of up to 32 MB, and between those that are in use they are lost.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 20)


def trim_heap() -> None:
    """Return freed memory to the system: glibc keeps what lies below something that is in use.

    Half a gigabyte after a layer of E2B in floats; half a millisecond after an answer.  Elsewhere nothing is done.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
