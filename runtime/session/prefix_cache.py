"""What an engine has read, and from where a prompt that shares a beginning with it goes on."""

from __future__ import annotations

from collections.abc import Sequence

from ..engine.cache import TURNS
from ..engine.contract import Engine, State


class PrefixCache:
    """`ids` are the tokens in the caches; `ends` are the ends of turns, from the first to the last."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.ids: list[int] = []
        self.ends: list[State] = []

    def reset(self) -> None:
        self.ids = []
        self.ends.clear()
        self._engine.reset()

    def reuse(self, prompt: list[int]) -> int:
        """Tokens of the prompt that are in the caches; one at least is always read again for its logits."""
        if len(self.ids) != self._engine.position:  # an interrupt came between the two
            self.reset()
        shared = common_prefix(self.ids, prompt[:-1])
        if shared < len(self.ids):
            shared = self._go_back(shared)
        self.ids = self.ids[:shared]
        self.ends = [end for end in self.ends if end.position <= shared]
        return shared

    def _go_back(self, position: int) -> int:
        """The position that was reached: a window that has moved on comes back from an earlier turn's end."""
        if self._engine.rewind(position):
            return position
        for end in reversed(self.ends):
            self._engine.restore(end)
            if end.position <= position:
                return end.position
            if self._engine.rewind(position):
                return position
        self._engine.reset()
        return 0

    def mark_turn(self) -> None:
        """Remember the end of a prompt, where the next turn may have to come back to.

        Of too many the one goes whose neighbours are nearest, but never the last.
        """
        self.ends.append(self._engine.save())
        if len(self.ends) > TURNS:
            at = [0, *(end.position for end in self.ends)]
            gaps = [after - before for before, after in zip(at, at[2:], strict=False)]
            del self.ends[gaps.index(min(gaps))]


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))
