"""Large memory on huge pages: weights that are streamed at every token cost fewer address translations.

onnxruntime packs weights into memory of malloc, which Linux backs with pages of 4 KiB.  What is
resident already is moved to pages of 2 MiB, in place and without using more memory: a tenth more
tokens a second (DECISIONS.md).  Elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SETTINGS = Path("/sys/kernel/mm/transparent_hugepage")
MADV_COLLAPSE = 25  # <linux/mman.h>, from Linux 6.1
LEAST = 16 << 20  # bytes; less is not worth a system call


def collapse_later() -> None:
    """Collapse in the background: the calls wait for every core once, and nobody waits for them."""
    if supported():
        threading.Thread(target=collapse, name="huge pages", daemon=True).start()


def supported() -> bool:
    """Not where whoever runs the machine has said never."""
    enabled = SETTINGS / "enabled"
    return sys.platform == "linux" and enabled.exists() and "[never]" not in enabled.read_text()


def collapse() -> int:
    """Move this process's large anonymous memory to huge pages; returns bytes that now are on some.

    An older kernel, or one without memory to move to, refuses; nothing is lost but speed.
    """
    libc, huge = ctypes.CDLL(None), int((SETTINGS / "hpage_pmd_size").read_text())
    moved = 0
    for start, stop in regions(huge):
        for first, last in resident(libc, start, stop, huge):
            refused = libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), MADV_COLLAPSE)
            moved += 0 if refused else last - first
    return moved


def regions(huge: int) -> Iterator[tuple[int, int]]:
    """Addresses of private, writable, anonymous mappings, cut to whole huge pages."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, mode, _, _, inode, *name = line.split()
        start, stop = (int(part, 16) for part in addresses.split("-"))
        if mode == "rw-p" and inode == "0" and not name and stop - start >= LEAST:
            yield -(-start // huge) * huge, stop // huge * huge


def resident(libc: ctypes.CDLL, start: int, stop: int, huge: int) -> Iterator[tuple[int, int]]:
    """Runs of huge pages that are in memory as a whole: others would grow."""
    pages = np.zeros((stop - start) // mmap.PAGESIZE, np.uint8)
    if libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), ctypes.c_void_p(pages.ctypes.data)):
        return
    whole = (pages.reshape(-1, huge // mmap.PAGESIZE) & 1).all(1)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], whole, [False]))))
    for first, last in edges.reshape(-1, 2).tolist():
        yield start + first * huge, start + last * huge
