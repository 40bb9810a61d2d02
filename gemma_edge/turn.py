"""One turn of a conversation: what is asked, the rounds of calls, and the answer."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from runtime.errors import ContextFull, RequestError
from runtime.language import events as spoken
from runtime.language.events import End, Stop, ToolCall, assistant_message, tool_message

from .options import Options
from .tools import Event, Function, ToolResult, answered, by_name, not_made

Message = dict[str, Any]
# What the model says next in this turn, with the options of a later round.
GoOn = Callable[["Turn", Options], Iterator[spoken.Event]]
WHY_NOT_MADE: dict[Stop, str] = {
    "cancelled": "the call was not made, because the answer was cancelled",
    "length": "the call was not made, because the answer has no tokens left",
}


@dataclass(frozen=True)
class Turn:
    """`messages` begin with the question and grow until the End has come; `cancelled` ends the turn early."""

    messages: list[Message]
    tools: Sequence[Function]
    rounds: int
    options: Options
    go_on: GoOn
    cancelled: threading.Event = field(default_factory=threading.Event)

    def events(self, spoken_events: Iterator[spoken.Event]) -> Iterator[Event]:
        """The events of all rounds, of which the first is given, and one End.  Every call has its result."""
        functions, ends = by_name(self.tools), list[End]()
        while True:
            calls = yield from self._spoken(spoken_events, ends)
            if calls and len(ends) > self.rounds and not self._stopped(ends):
                raise RequestError(f"the model still calls tools after {counted(self.rounds)}", "allow more rounds")
            for call in calls:
                yield self._result(call, functions, self._stopped(ends))
            stop = self._stopped(ends)
            if stop or not calls:
                yield sum_of(ends, stop or ends[-1].stop)
                return
            spoken_events = self._next_round(calls, ends)

    def _spoken(self, spoken_events: Iterator[spoken.Event], ends: list[End]) -> Generator[Event, None, list[ToolCall]]:
        """The events of one round, but for its End, which goes to `ends`; its calls are what the generator returns."""
        told: list[spoken.Event] = []
        for event in spoken_events:
            told.append(copy.deepcopy(event))  # whoever gets it may change it
            if not isinstance(event, End):
                yield event
        self.messages.append(assistant_message(told))
        ends.append(cast("End", told[-1]))
        return [event for event in told if isinstance(event, ToolCall)]

    def _result(self, call: ToolCall, functions: Mapping[str, Function], stop: Stop | None) -> ToolResult:
        result = not_made(call, WHY_NOT_MADE[stop]) if stop else answered(call, functions)
        self.messages.append(tool_message(call, copy.deepcopy(result.content)))
        return result

    def _stopped(self, ends: Sequence[End]) -> Stop | None:
        """Why no more tools are called, if so."""
        if self.cancelled.is_set() or ends[-1].stop == "cancelled":
            return "cancelled"
        limit = self.options.get("max_new_tokens")
        return "length" if limit is not None and spent(ends) >= limit else None

    def _next_round(self, calls: Sequence[ToolCall], ends: Sequence[End]) -> Iterator[spoken.Event]:
        try:
            return self.go_on(self, going_on(self.options, spent(ends)))
        except ContextFull as error:
            names = " and ".join(dict.fromkeys(call.name for call in calls))
            raise ContextFull(
                f"the result of {names} is too long: {error.message}",
                "return less from the tool, or open a longer context",
            ) from error


def spent(ends: Sequence[End]) -> int:
    """The tokens of some rounds."""
    return sum(end.new_tokens for end in ends)


def sum_of(ends: Sequence[End], stop: Stop) -> End:
    """The End of a turn: tokens of all rounds; the prompt, and how fast it went, of the last."""
    return replace(ends[-1], stop=stop, new_tokens=spent(ends), thought_tokens=sum(end.thought_tokens for end in ends))


def going_on(options: Options, spent: int) -> Options:
    """The options of a later round: a call that was asked for has been made, and so many tokens are spent."""
    later = options.copy()
    if later.get("tool_choice", "auto") != "none":
        later.pop("tool_choice", None)
    limit = later.get("max_new_tokens")
    if limit is not None:
        later["max_new_tokens"] = limit - spent
    return later


def counted(rounds: int) -> str:
    return f"{rounds} round" if rounds == 1 else f"{rounds} rounds"
