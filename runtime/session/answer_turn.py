"""Whose turn it is in a session: the newest answer's, read by one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ..engine.contract import closed
from ..errors import RequestError

T = TypeVar("T")


class AnswerTurn:
    """Answers have numbers; the highest has the turn, and whoever takes another ends it."""

    def __init__(self) -> None:
        self._inside = threading.Lock()
        self._number = 0
        self._closed: str | None = None

    @contextmanager
    def taken(self) -> Iterator[int]:
        """A new turn, while nobody else is inside.  Raises GemmaError while another thread is."""
        with self.inside():
            self._number += 1
            yield self._number

    def check_open(self) -> None:
        """Raises GemmaError once there are no more turns."""
        if self._closed:
            raise closed(self._closed)

    def close(self, cancel: Callable[[], None], what: str) -> None:
        """No more turns, for `what` is closed; `cancel` hurries a thread that is inside, and it is waited for."""
        self._closed = self._closed or what
        cancel()
        with self._inside:
            self._number += 1

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Raises GemmaError while another thread is inside, or once there are no more turns."""
        self.check_open()
        if not self._inside.acquire(blocking=False):
            raise RequestError("another thread is reading an answer of this session", "open a session for each thread")
        try:
            yield
        finally:
            self._inside.release()

    def events(self, events: Iterator[T], number: int) -> Iterator[T]:
        """The events of the answer of this number.  Raises GemmaError once another has the turn."""
        while True:
            with self.inside():
                if number != self._number:
                    raise RequestError(
                        "this answer ended when another began", "read an answer to its end, or open a second session"
                    )
                try:
                    event = next(events)
                except StopIteration:
                    return
            yield event
