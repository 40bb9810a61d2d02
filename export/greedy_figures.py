"""How many tokens of an artifact a reference would have chosen: a part of parity.json."""

from __future__ import annotations

import msgspec


class Greedy(msgspec.Struct, frozen=True):
    """Steps over all prompts: those with the reference's token, and those where its best two are as good as equal.

    unsure: of a model with static ranges, steps where the reference in float64 chooses another token
    """

    steps: int
    equal: int
    ties: int
    unsure: int = 0

    def line(self) -> str:
        ties = f", {self.ties} ties" if self.ties else ""
        unsure = f"; the reference itself is unsure of {self.unsure}" if self.unsure else ""
        return f"greedy tokens {self.equal} of {self.steps} equal{ties}{unsure}"
