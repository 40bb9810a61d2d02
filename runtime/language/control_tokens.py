"""Ids of the tokens that structure a turn: channels, tool calls, their quotes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

QUOTE = '<|"|>'
# For each place the names of Gemma 4, then of those before: FunctionGemma calls tools in the same syntax.
NAMES = (
    ("<|channel>",),
    ("<channel|>",),
    ("<|tool_call>", "<start_function_call>"),
    ("<tool_call|>", "<end_function_call>"),
    ("<|tool_response>", "<start_function_response>"),
    ("<|turn>", "<start_of_turn>"),
    (QUOTE, "<escape>"),
)


@dataclass(frozen=True)
class ControlTokens:
    """Token ids; -1, which no token has, where a vocabulary lacks one (Gemma 3 has neither channels nor calls)."""

    channel: int
    channel_end: int
    call: int
    call_end: int
    response: int
    turn: int
    quote: int

    @classmethod
    def of(cls, id_of: Callable[[str], int | None]) -> ControlTokens:
        known = [[token for token in map(id_of, names) if token is not None] for names in NAMES]
        return cls(*(tokens[0] if tokens else -1 for tokens in known))

    @property
    def marks(self) -> frozenset[int]:
        """Tokens between the parts of an answer, which are no part of its text."""
        return frozenset((self.channel, self.channel_end, self.call, self.call_end))

    @property
    def can_think(self) -> bool:
        return -1 not in (self.channel, self.channel_end)

    @property
    def can_call(self) -> bool:
        return -1 not in (self.call, self.call_end, self.response, self.quote)
