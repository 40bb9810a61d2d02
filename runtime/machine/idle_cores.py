"""How many threads serve best: a thread on a core that another process keeps busy makes the others wait."""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

STAT, THREADS = Path("/proc/stat"), Path("/proc/self/task")
SAMPLES, PAUSE = 7, 0.004  # seconds between samples


def idle_cores() -> int:
    """Cores that this process may use and no other does, at least 1."""
    others = busy() if sys.platform == "linux" else 0
    return beside(others, usable_cores(), os.cpu_count() or 1)


def beside(others: int, usable: int, cores: int) -> int:
    """Cores for this process, which may use `usable` of them, beside so many threads of others."""
    return max(1, min(usable, cores - others))


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy(stat: Path = STAT, threads: Path = THREADS) -> int:
    """Threads of other processes that run now: the median of a few looks at Linux's files."""
    looks = []
    for _ in range(SAMPLES):
        looks.append(running(stat.read_text(encoding="ascii")) - own(threads))
        time.sleep(PAUSE)
    return max(0, int(statistics.median_low(looks)))


def running(stat: str) -> int:
    """Read the text of /proc/stat."""
    return int(stat.split("procs_running ")[1].split(maxsplit=1)[0])


def own(threads: Path = THREADS) -> int:
    """Threads of this process that run now: onnxruntime's wait busily for a while after a call."""
    return sum(state(thread) == "R" for thread in threads.iterdir())


def state(thread: Path) -> str:
    """One letter; empty if the thread has ended since it was listed."""
    try:
        stat = (thread / "stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[0]
