"""An artifact against the float model, and against the values that its own integers stand for.

One text is read by the references once, whole; the artifact reads beginnings of it, of lengths around
the sliding window, and then single steps.  Position by position the logits must agree.  Nothing here needs
torch: what the references say is in files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.recipe import Gate, Recipe
from runtime.bundle.parity import Greedy, Parity, Report
from runtime.engine.chunk import CHUNK
from runtime.engine.contract import Engine
from runtime.engine.piece import Piece
from runtime.errors import GateMissed, GemmaError
from runtime.measure.golden import Goldens, record

Floats = NDArray[np.float32]
BEYOND = 7  # tokens after two windows
STEPS = 8  # decode steps after each prompt
KEPT, MANY = 32, 128  # most positions of a prompt that are compared, of a large model and of a small one
GOLDEN_PROMPTS, GOLDEN_STEPS = (1, 12, 40), 12
EXACT = 1e-3  # of the largest logit: what float32 may add
FLIPPED = 2e-2  # with int8 caches, where the last bit of a float may move a key or value to the next integer
LARGE = 1e8  # parameters: such a model is run by a slow runner in few places, and only as it ships
HALF_AGREEMENT, HALF_DIVERGENCE = 0.04, 1e-3  # what float16 may take from a gate: tiny random models lose 3 points
ORDERS = 4  # times the noise: sums in another order moved the logits of a trained sample by 2.7 times as much
NOISES = 2  # times that a reference with static ranges differs from itself in float64
LEAST = 0.1  # of the positions: those before the first step that went the other way are among them
STEPPED = 2e-2  # mean where some went: 0.0125 at most in ten proofs, where the noise showed none
UNSURE = 0.03  # of its tokens: more than it chooses otherwise in float64, its text being short
GENERATED = "generated weights"
ACCEPTABLE = (
    "the bundle is not sealed; take a recipe of more bits, or pass accept_loss=True if its answers are good enough"
)
TOO_MUCH = "the bundle is not sealed; take a recipe of more bits: nobody can accept so great a loss"
WRONG = "the bundle is not sealed; report this as a bug, with the checkpoint's name"
LOWERING = 0.05  # nats: what dynamic rounding of activations may add, and a wrong graph exceeds


def lengths(window: int, limit: int) -> list[int]:
    """Prompt lengths: one, a few, around the window, and two windows.

    With a window of one call's tokens, a step moves it after two windows, and a prompt's third call after a few more.
    """
    wanted = (1, 5, window - 1, window, window + 1, 2 * window, 2 * window + BEYOND)
    return sorted({n for n in wanted if 1 <= n <= limit - STEPS})


def short_lengths(window: int, limit: int) -> list[int]:
    """Without those of two windows: each reading of a large model's reference takes as long as its text."""
    return [n for n in lengths(window, limit) if n <= window + 1]


def few_lengths(window: int, limit: int) -> list[int]:
    """A short prompt, and one past the window."""
    return [n for n in lengths(window, limit) if n in (5, window + 1)]


def compared(window: int, limit: int) -> int:
    """Tokens that the float model reads where nothing but this comparison needs it: a window and what follows."""
    return short_lengths(window, limit)[-1] + STEPS


@dataclass
class Tally:
    """Sums over compared positions."""

    positions: int = 0
    agreed: int = 0
    divergence: float = 0.0
    worst_divergence: float = 0.0
    worst_difference: float = 0.0
    differences: list[float] = field(default_factory=list)
    largest: float = 0.0

    def add(self, found: Floats, expected: Floats) -> None:
        """Logits (n, vocab) of the artifact and of the reference."""
        divergence, differences = kl(expected, found), np.abs(found - expected).max(-1)
        self.positions += len(found)
        self.agreed += int((found.argmax(-1) == expected.argmax(-1)).sum())
        self.divergence += float(divergence.sum())
        self.worst_divergence = max(self.worst_divergence, float(divergence.max()))
        self.worst_difference = max(self.worst_difference, float(differences.max()))
        self.differences += differences.tolist()
        self.largest = max(self.largest, float(np.abs(expected).max()))

    def parity(self) -> Parity:
        return Parity(
            self.positions,
            self.agreed / self.positions,
            self.divergence / self.positions,
            self.worst_divergence,
            self.worst_difference,
            self.worst_difference / self.largest,
            float(np.mean(self.differences)) / self.largest,
            float(np.quantile(self.differences, LEAST)) / self.largest,
        )


def kl(expected: Floats, found: Floats) -> NDArray[np.float64]:
    """KL(expected || found) in nats, (n,); a row at a time, so that it stays in the processor's cache."""
    return np.array([row_kl(*pair) for pair in zip(expected, found, strict=True)])


def row_kl(expected: Floats, found: Floats) -> float:
    p, q = log_softmax(expected), log_softmax(found)
    return float(np.maximum(0.0, (np.exp(p) * (p - q)).sum(dtype=np.float64)))  # NaN stays NaN


def log_softmax(x: Floats) -> Floats:
    shifted = x - x.max(-1, keepdims=True)
    total: NDArray[np.float64] = np.log(np.exp(shifted).sum(-1, keepdims=True, dtype=np.float64))
    normalized: Floats = shifted - total.astype(np.float32)
    return normalized


def artifact_logits(
    decoder: Engine, ids: NDArray[np.int64], prompt: int, whole: dict[int, Any], kept: int = KEPT
) -> Iterator[Floats]:
    """Of the end of a prompt, from `first_compared` on, then of steps fed with the text."""
    start = max(position for position in whole if position < prompt)
    decoder.restore(whole[start])
    yield decoder.prefill(ids[start:prompt], prompt - first_compared(prompt, kept)).logits.copy()
    if prompt % CHUNK == 0:
        whole[prompt] = decoder.save()
    for position in range(prompt, prompt + STEPS):
        yield decoder.forward(Piece(ids[position : position + 1])).logits.copy()


@dataclass(frozen=True)
class Reading:
    """What a reference says of the first `length` tokens of a text.

    pieces: files of logits (n, vocab) of neighbouring positions, by the first of them
    noise: how far it is from itself in float64, where rounding makes that more than float32's last digits
    """

    length: int
    pieces: dict[int, Path]
    noise: Parity | None = None

    def logits(self, first: int, stop: int) -> Floats:
        """Of positions from `first` to before `stop`, as far as the reference has read, (n, vocab)."""
        start = max(one for one in self.pieces if one <= first)
        mapped: Floats = np.load(self.pieces[start], mmap_mode="r", allow_pickle=False)
        return mapped[first - start : min(stop, self.length) - start]


def compare(
    decoder: Engine,
    ids: NDArray[np.int64],
    readings: dict[str, Reading],
    progress: Callable[[float], None] = lambda done: None,
    artifact: str = "onnx",
    prompts: list[int] | None = None,
    kept: int = KEPT,
) -> Report:
    """Read beginnings of a text, ids (T,); the end of each is compared with the references that have read as far."""
    prompts = prompts or lengths(decoder.model.window, len(ids))
    tallies = {name: Tally() for name in readings}
    whole = {0: decoder.save()}  # states after whole calls, which longer prompts begin with too
    for some in overlapping(prompts, kept):
        compare_some(decoder, ids, some, readings, tallies, whole, kept)
        progress(len(some))
    against = {name: tally.parity() for name, tally in tallies.items()}
    return Report(artifact, prompts, STEPS, against, noise=readings["quantized"].noise)


def compare_some(
    decoder: Engine,
    ids: NDArray[np.int64],
    prompts: list[int],
    readings: dict[str, Reading],
    tallies: dict[str, Tally],
    whole: dict[int, Any],
    kept: int,
) -> None:
    """Beginnings that overlap; a row of logits is 1 MB."""
    first, stop = first_compared(prompts[0], kept), prompts[-1] + STEPS
    expected = {name: one.logits(first, stop) for name, one in readings.items() if one.length > first}
    for prompt in prompts:
        found = np.concatenate(list(artifact_logits(decoder, ids, prompt, whole, kept)))
        start = first_compared(prompt, kept) - first
        for name, rows in expected.items():
            if prompt + STEPS <= readings[name].length:
                tallies[name].add(found, rows[start : start + len(found)])
        del found  # before there are the next


def first_compared(prompt: int, kept: int) -> int:
    """Position of the first row of a prompt's end: of its last call, and at most `kept` rows."""
    return prompt - min(kept, (prompt - 1) % CHUNK + 1)


def overlapping(prompts: list[int], kept: int) -> list[list[int]]:
    """Neighbours whose compared positions overlap, together: a reference's head is read once for all of them."""
    found: list[list[int]] = []
    for prompt in prompts:
        if found and first_compared(prompt, kept) < found[-1][-1] + STEPS and prompt - found[-1][0] < kept:
            found[-1].append(prompt)
        else:
            found.append([prompt])
    return found


def spans(prompts: list[int], kept: int, length: int) -> list[tuple[int, int]]:
    """First and last but one of the positions that are compared, of the first `length`."""
    groups = ((first_compared(some[0], kept), some[-1] + STEPS) for some in overlapping(prompts, kept))
    return [(first, min(stop, length)) for first, stop in groups if first < length]


@dataclass(frozen=True)
class Asked:
    """What is asked of the artifacts of a draft: the gates of its recipe, and who may lower those of its losses."""

    recipe: Recipe
    generated: bool = False  # weights that mean nothing
    accept_loss: bool = False  # as a person said

    @property
    def accepts_loss(self) -> bool:
        """Then the recipe's floor is asked for."""
        return self.generated or self.accept_loss

    @property
    def accepted_by(self) -> str:
        return "--accept-loss" if self.accept_loss else GENERATED


@dataclass(frozen=True)
class Check:
    """A figure and its limit."""

    name: str
    figure: float
    limit: float
    passed: bool

    def line(self, report: Report, recipe: Recipe) -> str:
        gate = f"the gate of recipe {recipe.name} is {self.limit:.4g}"
        return f"{report.artifact}: {self.name} is {self.figure:.4g}, {gate}"


def judge(report: Report, asked: Asked, *, exact: bool = False, half: bool = False, limit: float = EXACT) -> list[str]:
    """The losses beyond the recipe's gate that are accepted; `exact` and `half` are a Runner's; `limit`: of `exact`.

    Raises GemmaError for any other figure that is past its gate.
    """
    recipe = asked.recipe
    if exact:
        refuse_first(exact_checks(report, limit), report, recipe)
        return []
    refuse_first(lowering_checks(report, recipe, half=half), report, recipe)
    asked_for = recipe.floor if asked.accepts_loss else recipe.gate
    refuse_first(losses(report, asked_for, half=half), report, recipe, TOO_MUCH if asked.accepts_loss else ACCEPTABLE)
    return [check.line(report, recipe) for check in losses(report, recipe.gate, half=half) if not check.passed]


def refuse_first(checks: Sequence[Check], report: Report, recipe: Recipe, hint: str = WRONG) -> None:
    """Raises GemmaError for the first that is not passed."""
    for check in checks:
        if not check.passed:
            raise (GateMissed if hint == ACCEPTABLE else GemmaError)(check.line(report, recipe), hint)


def exact_checks(report: Report, limit: float) -> list[Check]:
    values, noise = report.against["quantized"], report.noise
    greedy = report.greedy or Greedy(0, 0, 0)
    wrong, allowed = greedy.steps - greedy.equal - greedy.ties, greedy.unsure + (UNSURE * greedy.steps if noise else 0)
    tokens = Check("greedy tokens that its own integers would not choose", wrong, allowed, wrong <= allowed)
    if noise:
        most, mean = max(STEPPED, ORDERS * noise.mean_relative), values.mean_relative
        low, least = max(EXACT, ORDERS * noise.least_relative), values.least_relative
        return [
            Check("mean relative difference from its own integers", mean, most, mean <= most),
            Check("least relative difference from its own integers", least, low, least <= low),
            tokens,
        ]
    relative = values.worst_relative
    return [Check("largest relative difference from its own integers", relative, limit, relative <= limit), tokens]


def losses(report: Report, gate: Gate, *, half: bool) -> list[Check]:
    """How far the artifact is from the float model."""
    model = report.against["float"]
    least = gate.agreement - (HALF_AGREEMENT if half else 0)
    most = gate.divergence + (HALF_DIVERGENCE if half else 0) + noise_of(report)
    agreement, divergence = model.agreement, model.mean_divergence
    return [
        Check("top-1 agreement with the float model", agreement, least, agreement >= least),
        Check("divergence from the float model", divergence, most, divergence <= most),
    ]


def lowering_checks(report: Report, recipe: Recipe, *, half: bool) -> list[Check]:
    """Whether the artifact computes what its integers stand for, which no loss excuses."""
    divergence, most = report.against["quantized"].mean_divergence, LOWERING + noise_of(report)
    checks = [Check("divergence from its own integers", divergence, most, divergence <= most)]
    floats = all(scheme.is_float for scheme in (recipe.cache, *(rule.scheme for rule in recipe.rules)))
    if floats and not half and not recipe.released:
        relative = report.against["float"].worst_relative
        checks.append(Check("largest relative difference of a logit", relative, EXACT, relative <= EXACT))
    return checks


def noise_of(report: Report) -> float:
    return NOISES * report.noise.mean_divergence if report.noise else 0.0


def goldens(decoder: Engine, ids: NDArray[np.int64], report: Report) -> Goldens:
    """What the artifact answers, with the tolerance that its own rounding asks for."""
    values = report.against["quantized"]
    prompts = [record(decoder, ids[:length].tolist(), GOLDEN_STEPS) for length in GOLDEN_PROMPTS]
    return Goldens(tolerance=max(1e-3, 2 * values.worst_difference), prompts=prompts)
