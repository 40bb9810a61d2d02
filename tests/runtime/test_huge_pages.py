"""Memory moves to huge pages where the kernel can do it, and keeps what it holds."""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

import pytest

from runtime import huge_pages

SIZE, HUGE = 32 << 20, 2 << 20


def kernel_collapses() -> bool:
    """Asked of the kernel itself: a collapse of ours that does nothing must fail, not be skipped."""
    if not huge_pages.supported():
        return False
    with mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[:] = bytes(SIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        whole = -(-start // HUGE) * HUGE
        return ctypes.CDLL(None).madvise(ctypes.c_void_p(whole), ctypes.c_size_t(HUGE), 25) == 0


linux = pytest.mark.skipif(not kernel_collapses(), reason="the kernel does not collapse memory on demand")


def huge_bytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("AnonHugePages"))


@linux
def test_resident_memory_moves_and_keeps_its_bytes() -> None:
    with mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        pattern = bytes(range(256)) * (SIZE // 256)
        memory[:] = pattern
        before = huge_bytes()
        moved = huge_pages.collapse()
        assert moved >= SIZE // 2
        assert huge_bytes() - before >= SIZE // 2
        assert memory[:] == pattern


@linux
def test_untouched_memory_stays_untouched() -> None:
    with mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS):
        huge_pages.collapse()
        before = huge_bytes()
        huge_pages.collapse()
        assert huge_bytes() == before


def test_nothing_is_done_where_it_is_not_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huge_pages, "SETTINGS", tmp_path)
    assert not huge_pages.supported()
    (tmp_path / "enabled").write_text("always madvise [never]\n")
    assert not huge_pages.supported()
    (tmp_path / "enabled").write_text("always [madvise] never\n")
    assert huge_pages.supported() == (sys.platform == "linux")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not huge_pages.supported()
