"""An answer as it grows: what its tokens mean, and which may come next."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..arrays import Ids
from ..language.control_tokens import ControlTokens
from ..language.tokenizer import Tokenizer
from .answer_reader import AnswerReader, Events
from .options import Options
from .structured import Matcher


class Answer:
    """`push` is told each token once; `forced`, `allowed` and `forbidden` say what may come next."""

    def __init__(
        self,
        reader: AnswerReader,
        tokenizer: Tokenizer,
        control: ControlTokens,
        stops: Sequence[int],
        options: Options,
        *,
        calling: bool = False,
        response: Matcher | None = None,
        calls: Callable[[], Matcher] | None = None,
    ) -> None:
        """calling: there are tools to call; response: the grammar of the text; calls: makes that of a call."""
        self._reader, self._tokenizer, self._control, self._stops = reader, tokenizer, control, list(stops)
        self._thinking, self._budget, self._must_call = options.thinking, options.thinking_budget, options.must_call
        self._calling, self._response, self._calls = calling, response, calls
        self._call = calls() if calls else None

    @property
    def calls(self) -> int:
        """Calls so far."""
        return self._reader.calls

    @property
    def thought_tokens(self) -> int:
        return self._reader.thought_tokens

    def push(self, token: int) -> Events:
        """What one more token adds; the next mask is made from here on, while the model reads the token."""
        before = self._reader.part
        events = self._reader.push(token)
        after = self._reader.part
        if before == "call":
            if self._call and after == "call":
                self._call.take(token)
            elif self._calls:
                self._call = self._calls()
        elif before == after == "text" and self._response and token not in self._control.marks:
            self._response.take(token)
        return events

    def finish(self) -> Events:
        """What is left when the answer ends here."""
        return self._reader.finish()

    def forced(self) -> int | None:
        """The token that has to come: a thought whose budget is spent is closed."""
        if self._reader.part != "thought" or not self._spent():
            return None
        rest = self._reader.closing()
        return self._tokenizer.encode(rest, bos=False)[0] if rest else self._control.channel_end

    def allowed(self) -> Ids | None:
        """The tokens, ascending, from the grammar that is at work, if one is."""
        if self._reader.part == "call" and self._call:
            return self._call.allowed()
        if self._reader.part == "text" and self._must_call and not self._reader.calls:
            return np.array(sorted([*self._thought_mark(), self._control.call]), np.int64)
        if self._reader.part == "text" and self._response:
            return self._response_or_marks(self._response)
        return None

    def forbidden(self) -> list[int]:
        """No calls where there are no tools, no thought behind its budget, no end before what was asked for."""
        part, control = self._reader.part, self._control
        tokens = [] if self._calling else [control.call]
        if part == "text" and self._spent() and self._reader.thoughts:
            tokens.append(control.channel)
        if part == "thought" and (self._response or self._must_call):
            tokens += self._stops
        return [token for token in tokens if token >= 0]

    def _spent(self) -> bool:
        return self._budget is not None and self._reader.thought_tokens >= self._budget

    def _thought_mark(self) -> list[int]:
        """What opens a thought, where there may be one before the answer."""
        return [self._control.channel] if self._thinking and not (self._reader.thoughts or self._reader.calls) else []

    def _response_or_marks(self, response: Matcher) -> Ids:
        """Before the first word of the response a thought or calls may come; one thought, else some never answer."""
        allowed = response.allowed()
        if response.started or not (self._thinking or self._calling):
            return allowed
        marks = self._thought_mark()
        if self._calling:
            marks += [self._control.call, *([self._control.response] if self._reader.calls else [])]
        return np.union1d(allowed, np.array(marks, np.int64))
