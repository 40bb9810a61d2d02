"""A conversation: what was said goes on being read."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Unpack

from runtime.errors import RequestError
from runtime.language import events as spoken

from .answer import Answer
from .options import Options, check_names
from .tools import Function, check_functions
from .turn import Message, Turn

if TYPE_CHECKING:
    from runtime.session.session import Session as Conversation

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
        self._turn: Turn | None = None  # the newest

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
        ToolResult has it.  After so many `rounds` of calls the model has to answer without one.
        The conversation keeps the whole turn once its End has come, also an End that says "cancelled": calls that
        were not made then have results that say so.  It keeps nothing of a turn that was given up.
        Raises RequestError, before anything runs, for what can not be asked, and ContextFull for a conversation
        that is too long, also by the result of a tool; RequestError for a model that calls on after its rounds.
        """
        check_rounds(rounds)
        check_names(options)
        check_functions(tools)
        turn = Turn([{"role": "user", "content": text}], tuple(tools), rounds, options, self._go_on)
        first = self._chat(turn, options)
        self._turn = turn
        return Answer(turn.events(first), lambda: self._keep(turn), lambda: self._cancel(turn))

    def ask(
        self, text: str, *, tools: Sequence[Function] = (), rounds: int = ROUNDS, **options: Unpack[Options]
    ) -> str:
        """As `say`, and waits for all of the text.

        An answer that is cancelled returns what was said until then; the `end` of the answer of `say` tells why one
        ended.  Raises what `say` raises, and RequestError where the session is closed before the answer has ended.
        """
        return self.say(text, tools=tools, rounds=rounds, **options).text()

    def reset(self) -> None:
        """Forget what was said, but for the system's message."""
        self._conversation.reset()
        self._messages, self._turn = [], None

    def cancel(self) -> None:
        """End the running turn within one token, and without another call; a tool that runs is waited for."""
        self._cancel(self._turn)

    def close(self) -> None:
        """End the running answer; whatever is asked from here on raises RequestError."""
        self.cancel()
        self._conversation.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _chat(self, turn: Turn, options: Options) -> Iterator[spoken.Event]:
        from runtime.session.options import Options as Asked  # and with it numpy

        messages = [*self._system, *self._messages, *turn.messages]
        return self._conversation.chat(messages, Asked(tools=turn.tools, **options))

    def _go_on(self, turn: Turn, options: Options) -> Iterator[spoken.Event]:
        """A later round; the conversation forgets a cancel when one begins, and the turn does not."""
        if turn is not self._turn:
            raise RequestError(
                "this answer ended when another began", "read an answer to its end, or open a second session"
            )
        events = self._chat(turn, options)
        if turn.cancelled.is_set():
            self._conversation.cancel()
        return events

    def _keep(self, turn: Turn) -> None:
        if turn is self._turn:
            self._messages.extend(turn.messages)

    def _cancel(self, turn: Turn | None) -> None:
        if turn:
            turn.cancelled.set()
        if turn is self._turn:
            self._conversation.cancel()


def check_rounds(rounds: int) -> None:
    if not isinstance(rounds, int) or isinstance(rounds, bool) or rounds < 1:
        raise RequestError(f"rounds must be a whole number from 1 up, not {rounds!r:.40}", "leave it out")
