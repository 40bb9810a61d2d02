"""An answer while it is given."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator

from runtime.errors import RequestError
from runtime.language.events import End, Text

from .tools import Event


class Answer:
    """The events of an answer as they come, the last of them an End: for `for`, and for `async for`.

    The model runs while the next event is asked for: in the thread that asks, or for `async for` in one of its own.
    An answer that is given up before its End is no part of the conversation.
    """

    def __init__(self, events: Iterator[Event], keep: Callable[[], None], cancel: Callable[[], None]) -> None:
        """Use `Session.say`.  `keep` is called once, when the End has come; `cancel` stops the model."""
        self._events, self._keep, self._cancel = events, keep, cancel
        self._said: list[str] = []
        self._reading, self._given_up = threading.Lock(), False
        self.end: End | None = None

    def __iter__(self) -> Answer:
        return self

    def __next__(self) -> Event:
        event = self._next()
        if event is None:
            raise StopIteration
        return self._seen(event)

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> Event:
        """Raises CancelledError where the task is cancelled: the model has stopped by then, and the answer is over.

        That takes a token, or as long as the tool takes that is running.
        """
        context = contextvars.copy_context()
        waiting = asyncio.get_running_loop().run_in_executor(None, context.run, self._next)
        try:
            event = await asyncio.shield(waiting)
        except asyncio.CancelledError:
            self._given_up = True
            self._cancel()
            await settled(waiting)
            raise
        if event is None:
            raise StopAsyncIteration
        return self._seen(event)

    def text(self) -> str:
        """All that is said, without thoughts; waits for the end of the answer, of which `end` tells why it came."""
        for _ in self:
            pass
        return "".join(self._said)

    def _next(self) -> Event | None:
        """None behind the End.  Raises RequestError for an answer that was given up, or that another thread reads."""
        if not self._reading.acquire(blocking=False):
            raise RequestError("another thread is reading this answer", "read an answer in one place")
        try:
            if self._given_up:
                raise RequestError("this answer was given up when its task was cancelled", "ask again")
            return next(self._events, None)
        finally:
            self._reading.release()

    def _seen(self, event: Event) -> Event:
        if isinstance(event, Text):
            self._said.append(event.text)
        elif isinstance(event, End):
            self.end = event
            self._keep()
        return event


async def settled(waiting: asyncio.Future[Event | None]) -> None:
    """Wait for a thread, however often the task is cancelled meanwhile; what it gave, or raised, is of no use."""
    while not waiting.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([waiting])
    if not waiting.cancelled():
        waiting.exception()  # asked for, so that asyncio does not report it
