"""Which tensor is stored how: readable tables, first match wins.

A name is the tensor's own (`layers.3.self_attn.v_proj`, `per_layer_model_projection`), `head` for
the tied output table, `rows.tokens` and `rows.per_layer` for the tables that stay on flash.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from .scheme import FLOAT, INT4_B32, INT4_B128, INT8, Scheme


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


@dataclass(frozen=True)
class Recipe:
    name: str
    summary: str
    rules: tuple[Rule, ...]
    gate: Gate
    scales: str = "least-squares"

    def scheme(self, name: str) -> Scheme:
        """The scheme of a tensor.  Raises LookupError if no rule matches."""
        for rule in self.rules:
            if fnmatchcase(name, rule.pattern):
                return rule.scheme
        raise LookupError(f"recipe {self.name} has no rule for {name}")


def rules(*pairs: tuple[str, Scheme]) -> tuple[Rule, ...]:
    return tuple(Rule(pattern, scheme) for pattern, scheme in pairs)


TABLES = (("head", INT8), ("rows.*", INT8), ("per_layer_model_projection", INT8), ("*per_layer_*", INT8))

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("float", "as the checkpoint is, to compare with",
               rules(("*", FLOAT)), Gate(0.999, 1e-5)),
        Recipe("int8", "8 bits, one scale a row: no measurable loss",
               rules(("*", INT8)), Gate(0.97, 0.02)),
        Recipe("int4", "4-bit linears in blocks of 32, 8-bit head and rows",
               rules(*TABLES, ("*", INT4_B32)), Gate(0.4, 1.5)),
        Recipe("int4-b128", "as int4, in blocks of 128: smaller, faster, more loss",
               rules(*TABLES, ("*", INT4_B128)), Gate(0.3, 2.5)),
        Recipe("int4-mixed", "as int4, with the v and o projections at 8 bits",
               rules(*TABLES, ("*.v_proj", INT8), ("*.o_proj", INT8), ("*", INT4_B32)), Gate(0.4, 1.5)),
        Recipe("int4-absmax", "int4 by plain rounding, to compare with",
               rules(*TABLES, ("*", INT4_B32)), Gate(0.3, 2.5), scales="absmax"),
    )
}  # fmt: skip
DEFAULT = "int4"
