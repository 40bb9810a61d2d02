"""Progress on standard error: a bar for a person, a line now and then in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SILENCE = 20.0  # seconds, at most, before a pipe reads a line again


class Progress:
    """One bar for one stage; a context manager."""

    def __init__(self, stage: str, total: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        console = Console(stderr=True)
        columns = (TextColumn("{task.description:>28}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(stage, total=total)
        self._lines = None if console.is_terminal else Lines(stage, total, clock)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, amount: float) -> None:
        self._bar.advance(self._task, amount)
        if self._lines:
            self._lines.advance(amount)


class Lines:
    """What a pipe reads of a stage that takes long: how far it is, every SILENCE seconds."""

    def __init__(self, stage: str, total: float, clock: Callable[[], float]) -> None:
        self._stage, self._total, self._done, self._clock = stage, total, 0.0, clock
        self._said = clock()

    def advance(self, amount: float) -> None:
        self._done += amount
        now = self._clock()
        if now - self._said >= SILENCE:
            self._said = now
            print(f"{self._stage}: {min(1.0, self._done / max(self._total, 1e-9)):.0%}", file=sys.stderr, flush=True)
