"""What comparing the calls of a bundle with those of its checkpoint came to."""

from __future__ import annotations

import msgspec

NAMED = 8  # conversations that differ, of a report


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation by its line, from 1, and what each called."""

    line: int
    bundle: list[str]
    checkpoint: list[str]


class CallReport(msgspec.Struct, frozen=True, kw_only=True):
    """Conversations; those in which the checkpoint calls a tool; those in which the bundle makes the same calls."""

    conversations: int
    calling: int
    same: int
    differences: list[Difference]

    @property
    def share(self) -> float:
        return self.same / self.conversations

    def line(self) -> str:
        return (
            f"calls           the same in {self.same} of {self.conversations} conversations ({self.share:.1%}); "
            f"the checkpoint calls in {self.calling}"
        )
