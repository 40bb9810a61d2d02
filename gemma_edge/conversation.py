"""A conversation: what was said goes on being read, and Python functions are called for the model."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack, cast

from runtime.errors import RequestError
from runtime.language import events as spoken
from runtime.language.events import End, ToolCall, assistant_message, tool_message

from .answer import Answer
from .options import Options
from .tools import Event, Function, answered, by_name

if TYPE_CHECKING:
    from runtime.session.session import Session as Conversation

Message = dict[str, Any]
ROUNDS = 8


class Session:
    """One conversation with a model, and one answer at a time; `Model.session` begins it.

    `cancel` and `close` are for any thread.
    """

    def __init__(self, conversation: Conversation, system: str | None = None) -> None:
        """Use `Model.session`."""
        self._conversation = conversation
        self._system: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        self._messages: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        """A copy of what was said so far, as messages of the OpenAI kind; the system's is the first."""
        return copy.deepcopy([*self._system, *self._messages])

    def say(
        self, text: str, *, tools: Sequence[Function] = (), rounds: int = ROUNDS, **options: Unpack[Options]
    ) -> Answer:
        """Go on with the conversation; the answer's events come as they are asked for.

        tools: functions that the model may call, described by their annotations and docstrings.  They are called
        here, and the model goes on with what they return; what one raises is told to the model, and the event
        ToolResult has it.  An answer may take so many `rounds` of calls.
        The conversation keeps the whole turn once its End has come, and nothing of a turn that was given up.
        Raises RequestError, before anything runs, for what can not be asked, and ContextFull for a conversation
        that is too long; RequestError after the last round for a model that calls on.
        """
        if rounds < 1:
            raise RequestError(f"rounds {rounds}: not a number from 1 up", "leave it out")
        functions = by_name(tools)
        turn: list[Message] = [{"role": "user", "content": text}]
        first = self._chat(turn, tools, options)
        events = self._turn(turn, first, functions, rounds, options)
        return Answer(events, lambda: self._messages.extend(turn), self.cancel)

    def ask(
        self, text: str, *, tools: Sequence[Function] = (), rounds: int = ROUNDS, **options: Unpack[Options]
    ) -> str:
        """As `say`, and waits for all of the text."""
        return self.say(text, tools=tools, rounds=rounds, **options).text()

    def reset(self) -> None:
        """Forget what was said, but for the system's message."""
        self._conversation.reset()
        self._messages = []

    def cancel(self) -> None:
        """End the running answer within one token."""
        self._conversation.cancel()

    def close(self) -> None:
        """End the running answer; whatever is asked from here on raises GemmaError."""
        self._conversation.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _turn(
        self,
        turn: list[Message],
        events: Iterator[spoken.Event],
        functions: Mapping[str, Function],
        rounds: int,
        options: Options,
    ) -> Iterator[Event]:
        """The events of a turn, whose messages are added to `turn`: of every round, and the last one's End."""
        for _ in range(rounds):
            told: list[spoken.Event] = []
            for event in events:
                told.append(event)
                if not isinstance(event, End):
                    yield event
            turn.append(assistant_message(told))
            calls, end = [event for event in told if isinstance(event, ToolCall)], cast("End", told[-1])
            if not calls or end.stop == "cancelled":
                yield end
                return
            for call in calls:
                result = answered(call, functions)
                turn.append(tool_message(call, result.content))
                yield result
            events = self._chat(turn, list(functions.values()), going_on(options))
        raise RequestError(f"the model still calls tools after {rounds} rounds", "allow more rounds")

    def _chat(self, turn: list[Message], tools: Sequence[Function], options: Options) -> Iterator[spoken.Event]:
        from runtime.session.options import Options as Asked  # and with it numpy

        messages = [*self._system, *self._messages, *turn]
        return self._conversation.chat(messages, Asked(tools=tools, **options))


def going_on(options: Options) -> Options:
    """The options of a later round: a call that was asked for has been made."""
    later = options.copy()
    if later.get("tool_choice", "auto") != "none":
        later.pop("tool_choice", None)
    return later
