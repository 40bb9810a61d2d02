"""Ids of the tokens that structure a turn: channels, tool calls, their quotes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

QUOTE = '<|"|>'


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
        names = ("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<|turn>", QUOTE)
        found = [id_of(name) for name in names]
        return cls(*(-1 if token is None else token for token in found))

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
