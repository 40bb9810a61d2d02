"""Texts at which an answer ends, found in a stream; they are no part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from .events import End, Event, Stop, Text, ToolCall


class StopText:
    """Holds back what may be the beginning of a stop text.  `found` once one was whole."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops, self._held, self.hit = list(stops), "", False

    def push(self, text: str) -> str:
        """What is certain to come before a stop text."""
        self._held += text
        at = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if at:
            self.hit, said, self._held = True, self._held[: min(at)], ""
            return said
        kept = max((self._begun(stop) for stop in self._stops), default=0)
        said, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        return said

    def rest(self) -> str:
        """What was held back and began no stop text after all."""
        said, self._held = self._held, ""
        return said

    def _begun(self, stop: str) -> int:
        """Characters at the end that begin this stop text."""
        most = min(len(stop) - 1, len(self._held))
        return next((count for count in range(most, 0, -1) if self._held.endswith(stop[:count])), 0)


def cut(events: Iterator[Event], stops: Sequence[str], one_call: bool, cancel: Callable[[], None]) -> Iterator[Event]:
    """The events up to a stop text, or the first call; `cancel` ends the answer, and its End says why."""
    reader = StopText(stops)
    ended: Stop | None = None
    for event in events:
        if ended:
            if isinstance(event, End):
                yield replace(event, stop=ended)
            continue
        if isinstance(event, Text):
            said = reader.push(event.text)
            ended = "stop" if reader.hit else None
        else:
            said = reader.rest()
        if said:
            yield Text(said)
        if not isinstance(event, Text):
            yield event
        if one_call and isinstance(event, ToolCall):
            ended = "tool_calls"
        if ended:
            cancel()
