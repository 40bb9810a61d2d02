"""The tokens of an answer become events: text, thoughts, tool calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from ..calls.syntax import CallError, CallParser
from ..language.control_tokens import ControlTokens
from ..language.events import Text, Thought, ToolCall
from ..language.tokenizer import Tokenizer

HEADER = "thought\n"  # the name of the channel that thoughts are in

AnswerPart = Literal["text", "thought", "call"]
Events = list[Text | Thought | ToolCall]
# A call to the values of its arguments and what is wrong with them, "" if nothing; raises CallError.
ReadCall = Callable[[CallParser], tuple[dict[str, Any], str]]


class AnswerReader:
    """`part` is where the answer is; `thoughts` and `calls` count those so far."""

    def __init__(self, tokenizer: Tokenizer, control: ControlTokens, prompt: Sequence[int], read: ReadCall) -> None:
        """`prompt` ends where the answer begins, which may be inside a thought."""
        self._tokenizer, self._control, self._read = tokenizer, control, read
        self.thought_tokens = self.thoughts = self.calls = 0
        self._enter("text")
        start = open_thought(prompt, control)
        if start is not None:
            self._enter("thought")
            self._think(tokenizer.decode(prompt[start + 1 :]))

    def push(self, token: int) -> Events:
        """What one more token adds."""
        control = self._control
        if token == control.channel:
            return self._leave("thought")
        if token == control.call:
            return self._leave("call")
        if token == control.channel_end or (token == control.call_end and self.part == "call"):
            return self._leave("text")
        if self.part == "call":
            self._feed(token)
            return []
        if self.part == "thought":
            self.thought_tokens += self._named
            return self._think(self._stream.push(token))
        text = self._stream.push(token)
        return [Text(text)] if text else []

    def finish(self) -> Events:
        """What is left when the answer ends here."""
        return self._leave("text")

    def closing(self) -> str:
        """What a thought that ends here still wants before its end token."""
        if not self._named:
            return HEADER[len(self._held) :]
        return "" if self._held or not self._thought else "\n"

    def _enter(self, part: AnswerPart) -> None:
        self.part: AnswerPart = part
        self.thoughts += part == "thought"
        self._stream = self._tokenizer.stream()
        self._held, self._named, self._thought = "", False, False
        self._parser = CallParser()

    def _leave(self, part: AnswerPart) -> Events:
        """The events that close a part; a thought's last line break belongs to its end token."""
        left: Events = []
        if self.part == "call":
            left = [self._called()]
        elif self._held.rstrip("\n") not in ("", HEADER.rstrip("\n")):
            left = [Thought(self._held)]
        self._enter(part)
        return left

    def _think(self, text: str) -> Events:
        """Thoughts without the channel's name; a line break waits until more follows."""
        self._held += text
        if not self._named and HEADER.startswith(self._held) and self._held != HEADER:
            return []
        if not self._named:
            self._named, self._held = True, self._held.removeprefix(HEADER)
        kept = "\n" if self._held.endswith("\n") else ""
        said, self._held = self._held.removesuffix("\n"), kept
        self._thought = self._thought or bool(said)
        return [Thought(said)] if said else []

    def _feed(self, token: int) -> None:
        """One token of a call."""
        if token == self._control.quote:
            self._stream = self._tokenizer.stream()
            self._parser.push_quote()
        else:
            self._parser.push(self._stream.push(token))

    def _called(self) -> ToolCall:
        self.calls += 1
        arguments: dict[str, Any] = {}
        try:
            arguments, problem = self._read(self._parser)
        except CallError as error:
            problem = str(error)
        return ToolCall(f"call_{self.calls}", self._parser.name or "unknown", arguments, problem)


def open_thought(prompt: Sequence[int], control: ControlTokens) -> int | None:
    """Return where the thought begins that a prompt leaves open; none if it does not."""
    for at in range(len(prompt) - 1, -1, -1):
        if prompt[at] == control.channel:
            return at
        if prompt[at] in (control.channel_end, control.turn):
            return None
    return None
