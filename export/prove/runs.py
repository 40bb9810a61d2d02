"""What is run and what of it is compared: artifacts, ways to run them, references, and positions of a text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from runtime.bundle.manifest import Manifest
from runtime.engine.chunk import CHUNK
from runtime.engine.engine import ENGINES

from ..targets import Runner, find_target

BEYOND = 7  # tokens after two windows
STEPS = 8  # decode steps after each prompt
LARGE = 1e8  # parameters: such a model is run by a slow runner in few places, and only as it ships
ROWS_OF_LARGE = 32  # most positions of a prompt that are compared, of a large model

Prompts = Literal["every", "short", "few"]


class Reference(NamedTuple):
    """What an artifact is compared with: bits of its caches, and whether the head's second stage is left out."""

    cache_bits: int
    one_stage: bool


FLOAT = Reference(-1, one_stage=False)  # the checkpoint's own values


@dataclass(frozen=True)
class ProofSettings:
    """How much of a text is compared.

    prompts: which beginnings are read as prompts: "every" length around the window and two windows; "short", without
        those of two windows; "few", a short one and one past the window
    compared_rows: the most positions of a prompt that are compared
    """

    prompts: Prompts = "every"
    compared_rows: int = 128


WHOLE_PROOF = ProofSettings()


@dataclass(frozen=True)
class Run:
    """An artifact, and a way to run it: a line of parity.json."""

    target: str
    runner: Runner

    def reference(self, manifest: Manifest, cache_bits: int) -> Reference:
        """The integers' reference that it is compared with; `cache_bits`: of the caches that a host owns."""
        owned_by_host = not manifest.artifacts[self.target].states
        return Reference(cache_bits if owned_by_host else 0, one_stage=self.runner.exact)

    def settings(self, manifest: Manifest, settings: ProofSettings) -> ProofSettings:
        """What is compared of this run: of a large model less, whatever is set."""
        if not is_large(manifest):
            return settings
        return ProofSettings("few" if self.runner.slow else "short", ROWS_OF_LARGE)


def runs(manifest: Manifest) -> list[Run]:
    """Every way to run every artifact; those that cost too much for a large model are left out."""
    targets = map(find_target, in_order(manifest.artifacts))
    every = (Run(target.name, runner) for target in targets for runner in target.runners)
    return [run for run in every if not (is_large(manifest) and run.runner.small)]


def in_order(targets: Iterable[str]) -> list[str]:
    """Targets in the order of their engines; `gemma-edge verify` runs the first."""
    return sorted(targets, key=lambda name: [*ENGINES, name].index(name))


def is_large(manifest: Manifest) -> bool:
    return sum(manifest.model.parameters.values()) > LARGE


def prompt_lengths(prompts: Prompts, window: int, limit: int) -> list[int]:
    """Lengths of prompts in a text of `limit` tokens: one, a few, around the window, and two windows.

    With a window of one call's tokens, a step moves it after two windows, and a prompt's third call after a few more.
    Each reading of a large model's reference takes as long as its text: then there are shorter prompts only.
    """
    lengths = {
        "every": (1, 5, window - 1, window, window + 1, 2 * window, 2 * window + BEYOND),
        "short": (1, 5, window - 1, window, window + 1),
        "few": (5, window + 1),
    }
    return sorted({length for length in lengths[prompts] if 1 <= length <= limit - STEPS})


def tokens_to_compare(window: int, limit: int) -> int:
    """Tokens that the float model reads where nothing but a proof needs it: a window and what follows."""
    return prompt_lengths("short", window, limit)[-1] + STEPS


def first_compared(prompt: int, rows: int, chunk: int = CHUNK) -> int:
    """Position of the first row of a prompt's end: of its last call, and at most `rows` of them."""
    return prompt - min(rows, (prompt - 1) % chunk + 1)


def overlapping(prompts: Iterable[int], rows: int, chunk: int = CHUNK) -> list[list[int]]:
    """Neighbours whose compared positions overlap, together: a reference's head is read once for all of them."""
    groups: list[list[int]] = []
    for prompt in prompts:
        group = groups[-1] if groups else []
        if group and first_compared(prompt, rows, chunk) < group[-1] + STEPS and prompt - group[0] < rows:
            group.append(prompt)
        else:
            groups.append([prompt])
    return groups


def compared_spans(prompts: Iterable[int], rows: int, length: int) -> list[tuple[int, int]]:
    """First and last but one of the positions that are compared, of the first `length`."""
    spans = ((first_compared(group[0], rows), group[-1] + STEPS) for group in overlapping(prompts, rows))
    return [(first, min(stop, length)) for first, stop in spans if first < length]


def merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same positions in spans that do not overlap."""
    apart: list[tuple[int, int]] = []
    for first, stop in sorted(spans):
        if apart and first <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(stop, apart[-1][1]))
        else:
            apart.append((first, stop))
    return apart
