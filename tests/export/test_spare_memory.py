"""What was freed below something that is in use goes back to the system."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from export.spare_memory import give_back


def resident() -> int:
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) * 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere nothing is done")
def test_freed_memory_goes_back():
    held = [b"x" * 60_000 for _ in range(1000)]  # below the size that glibc maps on its own
    last, held = held[-1], []
    before = resident()
    give_back()
    assert before - resident() > 30_000_000
    assert last == b"x" * 60_000
