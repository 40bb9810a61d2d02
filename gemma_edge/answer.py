"""An answer while it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

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
        self.end: End | None = None

    def __iter__(self) -> Answer:
        return self

    def __next__(self) -> Event:
        return self._seen(next(self._events))

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> Event:
        """Raises CancelledError where the task is cancelled; the model then stops within a token."""
        try:
            event = await asyncio.to_thread(next, self._events, None)
        except asyncio.CancelledError:
            self._cancel()
            raise
        if event is None:
            raise StopAsyncIteration
        return self._seen(event)

    def text(self) -> str:
        """All that is said, without thoughts; waits for the end of the answer."""
        for _ in self:
            pass
        return "".join(self._said)

    def _seen(self, event: Event) -> Event:
        if isinstance(event, Text):
            self._said.append(event.text)
        elif isinstance(event, End):
            self.end = event
            self._keep()
        return event
