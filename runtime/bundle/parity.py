"""What an exporter measured and asked before it sealed a bundle: the contents of parity.json."""

from __future__ import annotations

import msgspec

NAMED = 8  # conversations that differ, of a report


class Parity(msgspec.Struct, frozen=True):
    """An artifact against one reference, over all compared positions."""

    positions: int
    agreement: float  # share with the same most likely token
    mean_divergence: float  # Kullback-Leibler, nats a token
    worst_divergence: float
    worst_difference: float  # of a logit
    worst_relative: float  # of the largest logit
    mean_relative: float = 0.0  # mean over positions of the largest difference, of the largest logit
    least_relative: float = 0.0  # what a tenth of them stay below: a rare step the other way does not move it

    def line(self, name: str) -> str:
        return (
            f"{name:12} top-1 {self.agreement:7.2%}   KL {self.mean_divergence:.3g} (worst {self.worst_divergence:.3g})"
            f"   logits {self.worst_difference:.3g} ({self.worst_relative:.3g} relative)"
        )


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


class Report(msgspec.Struct, frozen=True):
    """One way to run an artifact, against both references; `greedy` where float32 makes it comparable.

    noise: of a model with static ranges, its integers' reference in float32 against itself in float64
    """

    artifact: str
    prompts: list[int]
    steps: int
    against: dict[str, Parity]
    greedy: Greedy | None = None
    noise: Parity | None = None

    def lines(self) -> list[str]:
        against = self.against | ({"(noise)": self.noise} if self.noise else {})
        lines = [f"{self.artifact:15} {parity.line(name)}" for name, parity in against.items()]
        return lines + ([f"{self.artifact:15} {self.greedy.line()}"] if self.greedy else [])


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of a bundle besides its logits, for parity.json.

    forms: of conversations, each rendered or not known; stop: the tokens that end an answer, by text
    """

    forms: dict[str, str]
    stop: dict[str, int]
    structured: str
    call: str


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

    @property
    def nothing(self) -> str:
        """What is said where the checkpoint calls nowhere: 100 % of no calls would mean nothing."""
        if self.calling:
            return ""
        alone = f"; the bundle calls in {self.conversations - self.same}" if self.same < self.conversations else ""
        return f"nothing was compared: the checkpoint calls in 0 of {self.conversations} conversations{alone}"

    def line(self) -> str:
        return "calls           " + (
            self.nothing
            or f"the same in {self.same} of {self.conversations} conversations ({self.share:.1%}); "
            f"the checkpoint calls in {self.calling}"
        )


class AcceptedLoss(msgspec.Struct, frozen=True, kw_only=True):
    """Gates of the recipe that were missed, and why the bundle was sealed nevertheless.

    accepted_by: `--accept-loss`, or `generated weights`, which mean nothing and are asked for less
    """

    accepted_by: str
    missed: list[str]

    def line(self) -> str:
        return f"loss accepted ({self.accepted_by}): {'; '.join(self.missed)}"


class PartReport(msgspec.Struct, frozen=True, kw_only=True):
    """A part's golden calls against the checkpoint's own module.

    worst_difference: the largest of a value, over the largest value of its output; tolerance: what that may be
    """

    calls: int
    worst_difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Say whether the difference is within the tolerance; one that is no number is not."""
        return self.worst_difference <= self.tolerance

    def line(self, name: str) -> str:
        """Return what `export` and `verify` print of the part."""
        return f"{name}: largest difference {self.worst_difference:.2g} of {self.tolerance:.2g} allowed"


class Reports(msgspec.Struct, frozen=True):
    """parity.json: every way to run every artifact, and what the first was asked besides its logits."""

    reports: list[Report]
    rehearsal: Rehearsal | None = None  # none where nothing here runs the first artifact
    calls: CallReport | None = None  # none where no conversations were given
    loss: AcceptedLoss | None = None  # none where every gate of the recipe was met
    parts: dict[str, PartReport] = {}  # by name; since 1.1

    def lines(self) -> list[str]:
        lines = [line for report in self.reports for line in report.lines()]
        asked = [report.line() for report in (self.calls, self.loss) if report]
        return [*lines, *asked, *(f"{'part':15} {part.line(name)}" for name, part in self.parts.items())]
