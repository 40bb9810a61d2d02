"""What an answer may say next: the thought's budget, and the grammars of the answer and of calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..engine.sampler import Sampler
from ..language.control_tokens import ControlTokens
from ..language.tokenizer import Tokenizer
from .answer_reader import AnswerReader
from .structured import Ids, Matcher

Floats = NDArray[np.float32]


class Steering:
    """Chooses a token; `follow` is told of each that was said, after the reader."""

    def __init__(
        self,
        sampler: Sampler,
        reader: AnswerReader,
        tokenizer: Tokenizer,
        control: ControlTokens,
        stops: Sequence[int],
        *,
        thinking: bool,
        budget: int | None,
        calling: bool,
        must_call: bool,
        response: Matcher | None,
        calls: Callable[[], Matcher] | None,
    ) -> None:
        self._sampler, self._reader, self._tokenizer, self._control = sampler, reader, tokenizer, control
        self._stops, self._thinking, self._budget, self._calling = list(stops), thinking, budget, calling
        self._must_call, self._response, self._calls = must_call, response, calls
        self._call = calls() if calls else None
        self._before = reader.part

    def __call__(self, logits: Floats) -> int:
        """Logits (vocab,) float32 to a token id."""
        if self._reader.part == "thought" and self._spent():
            rest = self._reader.closing()
            return self._tokenizer.encode(rest, bos=False)[0] if rest else self._control.channel_end
        allowed = self._allowed()
        if allowed is not None:
            return int(allowed[self._sampler(logits[allowed])])
        if forbidden := self._forbidden():
            logits = logits.copy()
            logits[forbidden] = -np.inf
        return self._sampler(logits)

    def follow(self, token: int) -> None:
        """Take a token that was said, so that the next mask is made while the model reads it."""
        before, self._before = self._before, self._reader.part
        if before == "call":
            if self._call and self._reader.part == "call":
                self._call.take(token)
            elif self._calls:
                self._call = self._calls()
        elif before == self._reader.part == "text" and self._response and token not in self._control.marks:
            self._response.take(token)

    def _spent(self) -> bool:
        return self._budget is not None and self._reader.thought_tokens >= self._budget

    def _allowed(self) -> Ids | None:
        """The tokens, ascending, from the grammar that is at work, if one is."""
        if self._reader.part == "call" and self._call:
            return self._call.allowed()
        if self._reader.part == "text" and self._must_call and not self._reader.calls:
            return np.array(sorted([*self._thought_mark(), self._control.call]), np.int64)
        if self._reader.part == "text" and self._response:
            return self._response_or_marks(self._response)
        return None

    def _forbidden(self) -> list[int]:
        """No calls where there are no tools, no thought behind its budget, no end before what was asked for."""
        part, control = self._reader.part, self._control
        tokens = [] if self._calling else [control.call]
        if part == "text" and self._spent() and self._reader.thoughts:
            tokens.append(control.channel)
        if part == "thought" and (self._response or self._must_call):
            tokens += self._stops
        return [token for token in tokens if token >= 0]

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
