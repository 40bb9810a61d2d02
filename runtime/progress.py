"""Progress on standard error, and none in a pipe."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """One bar for one stage; a context manager."""

    def __init__(self, stage: str, total: float) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description:>28}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(stage, total=total)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, amount: float) -> None:
        self._bar.advance(self._task, amount)
