"""What an artifact's figures must meet, and which losses may be accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quantize.recipe import Gate, Recipe
from runtime.bundle.parity import Greedy, Report
from runtime.errors import GateMissed, GemmaError

EXACT = 1e-3  # of the largest logit: what float32 may add
FLIPPED = 2e-2  # with int8 caches, where the last bit of a float may move a key or value to the next integer
HALF_AGREEMENT, HALF_DIVERGENCE = 0.04, 1e-3  # what float16 may take from a gate: tiny random models lose 3 points
ORDERS = 4  # times the noise: sums in another order moved the logits of a trained sample by 2.7 times as much
NOISES = 2  # times that a reference with static ranges differs from itself in float64
STEPPED = 2e-2  # mean where some went: 0.0125 at most in ten proofs, where the noise showed none
UNSURE = 0.03  # of its tokens: more than it chooses otherwise in float64, its text being short
LOWERING = 0.05  # nats: what dynamic rounding of activations may add, and a wrong graph exceeds
WEIGHTS_MEAN_NOTHING = "generated weights"  # who accepts the losses of a checkpoint by `synth`
ACCEPTABLE = (
    "the bundle is not sealed; take a recipe of more bits, or pass accept_loss=True if its answers are good enough"
)
TOO_MUCH = "the bundle is not sealed; take a recipe of more bits: nobody can accept so great a loss"
WRONG = "the bundle is not sealed; report this as a bug, with the checkpoint's name"


@dataclass(frozen=True)
class Terms:
    """What the artifacts of a draft must meet: the gates of its recipe, and who may lower those of its losses.

    is_float: weights, rows and caches are the checkpoint's own values
    generated: the weights mean nothing; accept_loss: a person said so
    """

    recipe: Recipe
    is_float: bool = False
    generated: bool = False
    accept_loss: bool = False

    @property
    def accepts_loss(self) -> bool:
        """Whether the recipe's floor is the gate."""
        return self.generated or self.accept_loss

    @property
    def accepted_by(self) -> str:
        return "--accept-loss" if self.accept_loss else WEIGHTS_MEAN_NOTHING


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


def judge(report: Report, terms: Terms, *, exact: bool = False, half: bool = False, limit: float = EXACT) -> list[str]:
    """The losses beyond the recipe's gate that are accepted; `exact` and `half` are a Runner's; `limit`: of `exact`.

    Raises GemmaError for any other figure that is past its gate.
    """
    recipe = terms.recipe
    if exact:
        refuse_first(exact_checks(report, limit), report, recipe)
        return []
    refuse_first(lowering_checks(report, is_float=terms.is_float, half=half), report, recipe)
    gate, hint = (recipe.floor, TOO_MUCH) if terms.accepts_loss else (recipe.gate, ACCEPTABLE)
    refuse_first(losses(report, gate, half=half), report, recipe, hint)
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


def lowering_checks(report: Report, *, is_float: bool, half: bool) -> list[Check]:
    """Whether the artifact computes what its integers stand for, which no loss excuses."""
    divergence, most = report.against["quantized"].mean_divergence, LOWERING + noise_of(report)
    checks = [Check("divergence from its own integers", divergence, most, divergence <= most)]
    if is_float and not half:
        relative = report.against["float"].worst_relative
        checks.append(Check("largest relative difference of a logit", relative, EXACT, relative <= EXACT))
    return checks


def noise_of(report: Report) -> float:
    return NOISES * report.noise.mean_divergence if report.noise else 0.0
