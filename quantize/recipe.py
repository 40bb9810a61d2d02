"""Which tensor is stored how: readable tables, first match wins.

A name is the tensor's own (`layers.3.self_attn.v_proj`, `per_layer_model_projection`), `head` for
the output table (the token table, if tied), `rows.tokens` and `rows.per_layer` for the tables that stay on flash.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

from .scheme import FLOAT, INT2_B64, INT4_B32, INT4_B128, INT8, INT8_B32, Scales, Scheme

Calibration = Literal["none", "quick", "gptq"]


@dataclass(frozen=True)
class Rule:
    pattern: str
    scheme: Scheme


@dataclass(frozen=True)
class Gate:
    """What verify asks of an artifact, against the float model, on text.

    agreement: least share of positions with the same most likely token
    divergence: largest mean Kullback-Leibler divergence, nats a token
    """

    agreement: float
    divergence: float


def twice(agreement: float, divergence: float) -> Gate:
    """The gate of a recipe by which the real Gemma 3 270M loses so much on the passage that verify reads.

    It loses more than any larger Gemma, and more than the trained sample: DECISIONS.md has both.
    """
    return Gate(round(1 - 2 * (1 - agreement), 3), 2 * divergence)


@dataclass(frozen=True)
class Recipe:
    """floor: the gate of weights that mean nothing, which are more easily moved than trained ones, and of a loss that
    somebody accepts: what is further away is another model.

    uncalibrated_gate: of a recipe that could be calibrated, and is not
    """

    name: str
    summary: str
    rules: tuple[Rule, ...]
    gate: Gate
    rescored: int = 0  # best logits that the runtime computes again from the token rows
    scales: Scales = "least-squares"
    cache: Scheme = INT8  # of keys and values
    calibration: Calibration = "none"
    floor: Gate = Gate(0.15, 1.0)
    uncalibrated_gate: Gate = twice(0.748, 0.328)  # as `int4-head8`
    keeps_released_integers: bool = False  # integers that the checkpoint has are taken as they are

    @property
    def calibrated(self) -> bool:
        """Channels are folded, and scales weighted by what the inputs are in use."""
        return self.calibration != "none"

    @property
    def gptq(self) -> bool:
        return self.calibration == "gptq"

    def uncalibrated(self) -> Recipe:
        """The same rules, fitted to nothing, and the gate of that."""
        return replace(self, calibration="none", gate=self.uncalibrated_gate) if self.calibrated else self

    def scheme(self, name: str) -> Scheme:
        """The scheme of a tensor.  Raises LookupError if no rule matches."""
        for rule in self.rules:
            if fnmatchcase(name, rule.pattern):
                return rule.scheme
        raise LookupError(f"recipe {self.name} has no rule for {name}")

    def scales_of(self, name: str) -> Scales:
        """How the scales of a tensor are chosen.

        A head that only finds candidates loses nothing by positive ones, which XNNPACK holds without offsets.
        """
        return "positive" if name == "head" and self.rescored and self.scales == "least-squares" else self.scales


def rules(*pairs: tuple[str, Scheme]) -> tuple[Rule, ...]:
    return tuple(Rule(pattern, scheme) for pattern, scheme in pairs)


ROWS = (("rows.*", INT8), ("*per_layer_*", INT8))
HEAD = ("head", INT4_B32)
RESCORED = 256  # of the best logits, from the token rows: samples like an 8-bit head

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("float", "as the checkpoint is, to compare with",
               rules(("*", FLOAT)), Gate(0.999, 1e-5), floor=Gate(0.999, 1e-5), cache=FLOAT),
        Recipe("as-released", "the integers a checkpoint was released with",
               rules(("rows.*", INT8), HEAD, ("*", INT8_B32)), twice(0.892, 0.00628),
               RESCORED, floor=Gate(0.6, 0.05), keeps_released_integers=True),
        Recipe("int8", "8 bits in blocks of 32: hardly any loss",
               rules(("rows.*", INT8), ("*", INT8_B32)), twice(0.892, 0.00628), floor=Gate(0.8, 0.05), cache=FLOAT),
        Recipe("int4", "calibrated 4-bit linears in blocks of 128, two-stage head, 8-bit rows",
               rules(*ROWS, ("*", INT4_B128)),
               twice(0.793, 0.143), RESCORED, uncalibrated_gate=twice(0.622, 0.525), calibration="gptq"),
        Recipe("int4-b32", "as int4, in blocks of 32: closer to the model, an eighth more bytes",
               rules(*ROWS, HEAD, ("*", INT4_B32)), twice(0.856, 0.106), RESCORED, calibration="gptq"),
        Recipe("int4-head8", "as int4-b32, with an 8-bit head",
               rules(*ROWS, ("head", INT8), ("*", INT4_B32)), twice(0.838, 0.107), calibration="gptq"),
        Recipe("int4-head2", "as int4-b32, with a 2-bit head of which more logits are recomputed",
               rules(*ROWS, ("head", INT2_B64), ("*", INT4_B32)), twice(0.856, 0.119),
               4 * RESCORED, calibration="gptq"),
        Recipe("int4-mixed", "as int4-b32, with the v and o projections at 8 bits",
               rules(*ROWS, HEAD, ("*.v_proj", INT8_B32), ("*.o_proj", INT8_B32), ("*", INT4_B32)),
               twice(0.82, 0.0988), RESCORED, calibration="gptq"),
        Recipe("int4-quick", "as int4-b32, rounded to the nearest: a fraction of the time",
               rules(*ROWS, HEAD, ("*", INT4_B32)), twice(0.811, 0.125), RESCORED, calibration="quick"),
        Recipe("int4-datafree", "as int4-b32, without calibration: loses much",
               rules(*ROWS, HEAD, ("*", INT4_B32)), twice(0.748, 0.335), RESCORED),
        Recipe("int4-absmax", "int4-datafree by plain rounding, to compare with",
               rules(*ROWS, HEAD, ("*", INT4_B32)), twice(0.694, 0.397), RESCORED,
               floor=Gate(0.1, 2.0), scales="absmax"),
    )
}  # fmt: skip
DEFAULT = "int4"
RELEASED = "as-released"
