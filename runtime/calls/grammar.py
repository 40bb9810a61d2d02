"""The calls that some tools allow, as a grammar for llguidance: only their names, arguments by their schemas.

Arguments come in the order in which the template writes them: sorted, without regard to case.  A keyword of a
schema is held, or refused by its name; the grammar may allow less than the schema, never more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from ..errors import GemmaError, RequestError
from ..schema.guidance import AS_TEXT
from ..schema.json_schema import Schema
from ..schema.parts import (
    DIGITS,
    Alternatives,
    Condition,
    SchemaPart,
    SchemaParts,
    check_held,
    disjoint,
    finite,
    kinds,
    number_range,
)
from ..schema.text_pattern import ANY_TEXT, NO_TEXT, is_empty, terminal_of_format, terminal_of_pattern
from .array_rules import array_rule
from .object_rules import object_rule
from .text import value_pieces
from .tool_schema import Declaration

RULES = 20_000  # most rules of a grammar
FAR = 10**18  # where a range ends that is open on one side, because digits could go on for ever
INTEGER = "/-?(?:0|[1-9][0-9]{0,18})/"
NUMBER = "/-?(?:0|[1-9][0-9]{0,18})(?:\\.[0-9]{1,17})?(?:[eE][-+]?[0-9]{1,2})?/"


def call_grammar(
    declared: Sequence[Declaration], call_end: int, quote: int, free: Collection[str] | None = None
) -> str:
    """Lark rules for what stands between the token that begins a call and the one that ends it, which is the last.

    Tools named in `free` may have any arguments.  Raises GemmaError, which names the tool and the keyword,
    for another whose schema can not be held.
    """
    rules = Rules(quote)
    calls = []
    for tool in declared:
        name, schema = tool["function"]["name"], tool["function"]["parameters"]
        try:
            calls.append(f"{text(name)} {rules.arguments({'type': 'object'} if name in (free or ()) else schema)}")
        except GemmaError as error:
            raise RequestError(f"calls of {name} cannot be held to its schema: {error.message}", error.hint) from error
    return f'{AS_TEXT}start: "call:" ({" | ".join(calls)}) <[{call_end}]>\n' + "\n".join(rules.lines) + "\n"


class Rules:
    """Rules made so far; `value` adds one for parts of a schema and gives its name, or "" where no value fits."""

    def __init__(self, quote: int) -> None:
        self.quote = f"<[{quote}]>"
        self.lines: list[str] = []
        self.parts = SchemaParts({})
        self._names: dict[frozenset[SchemaPart], str] = {}
        self._open: dict[str, bool] = {}  # rules in the making, and whether they were asked for inside themselves
        self._count = 0

    def arguments(self, schema: Schema) -> str:
        self.parts, self._names = SchemaParts(schema), {}
        rule = self.of([schema, {"type": "object"}])
        if not rule:
            raise RequestError("no arguments satisfy it", "correct the schema")
        return rule

    def of(self, schemas: Sequence[Any]) -> str:
        return self.value(self.parts.of(schemas))

    def value(self, parts: Sequence[SchemaPart]) -> str:
        key = frozenset(parts)
        if key in self._names:
            if self._names[key] in self._open:
                self._open[self._names[key]] = True
            return self._names[key]
        self._names[key] = name = self.reserve("v")
        self._open[name] = False
        rule = self.alternatives(parts)
        if self._open.pop(name) and not rule:
            raise RequestError("no value satisfies a part of it that refers to itself", "correct the schema")
        if rule:
            self.lines.append(f"{name}: {rule}")
        self._names[key] = name if rule else ""
        return self._names[key]

    def named(self, rule: str, letter: str = "v") -> str:
        """A rule of its own; a capital letter makes it a terminal."""
        name = self.reserve(letter)
        self.lines.append(f"{name}: {rule}")
        return name

    def reserve(self, letter: str) -> str:
        self._count += 1
        if self._count > RULES:
            raise RequestError(f"it needs more than {RULES} grammar rules", "simplify the schema")
        return f"{letter}{self._count}"

    def alternatives(self, parts: Sequence[SchemaPart]) -> str:
        choice = next((part for part in parts if isinstance(part, Alternatives)), None)
        if choice:
            return joined(map(self.value, self.branches(choice, [part for part in parts if part is not choice])))
        conditions = [part for part in parts if isinstance(part, Condition)]
        return joined(self.kind(kind, conditions) for kind in kinds(conditions))

    def branches(self, choice: Alternatives, rest: Sequence[SchemaPart]) -> list[list[SchemaPart]]:
        ways = [list(dict.fromkeys([*rest, *self.parts.of([schema])])) for schema in choice.schemas]
        for index, way in enumerate(ways if choice.keyword == "oneOf" else []):
            if not all(disjoint(self.parts, way, other) for other in ways[:index]):
                raise RequestError(
                    "the keyword oneOf is supported only where no value fits two alternatives", "use anyOf"
                )
        return ways

    def kind(self, kind: str, conditions: Sequence[Condition]) -> str:
        values = finite(self.parts, kind, conditions)
        if values is not None:
            return joined(map(self.literal, values))
        check_held(kind, conditions)
        if kind in ("integer", "number"):
            return self.number(kind, conditions)
        if kind == "string":
            return self.string(conditions)
        return array_rule(self, conditions) if kind == "array" else object_rule(self, conditions)

    def literal(self, value: Any) -> str:
        return self.written(value_pieces(value))

    def written(self, pieces: Iterable[str | None]) -> str:
        """Texts as they are, None as the quote token."""
        return " ".join(self.quote if piece is None else text(piece) for piece in pieces if piece != "")

    def number(self, kind: str, conditions: Sequence[Condition]) -> str:
        low, high = number_range(kind, conditions)
        steps = [condition.keywords["multipleOf"] for condition in conditions if "multipleOf" in condition.keywords]
        if steps and kind == "number":
            low, high = max(low, -farthest(steps)), min(high, farthest(steps))
        if low > high or not has_multiple(kind, steps, low, high):
            return ""
        if not steps and math.isinf(low) and math.isinf(high):
            return INTEGER if kind == "integer" else NUMBER
        edges = {
            "minimum": -FAR if low < -FAR and high > -FAR else low,
            "maximum": FAR if high > FAR and low < FAR else high,
        }
        ranged = {word: edge for word, edge in edges.items() if math.isfinite(edge)}
        multiples = {"allOf": [{"multipleOf": step} for step in steps]} if steps else {}
        return self.named(f"%json {json.dumps({'type': kind, **ranged, **multiples})}")

    def string(self, conditions: Sequence[Condition]) -> str:
        terminal = self.text(conditions)
        return "" if is_empty(terminal) else f"{self.quote} {self.named(terminal, 'S')} {self.quote}"

    def text(self, conditions: Sequence[Condition]) -> str:
        """The terminal of what stands between quotes."""
        words = [condition.keywords for condition in conditions]
        terminals = [terminal_of_pattern(keywords["pattern"]) for keywords in words if "pattern" in keywords]
        terminals += [terminal_of_format(keywords["format"]) for keywords in words if "format" in keywords]
        least = max((keywords.get("minLength", 0) for keywords in words), default=0)
        most = min((keywords["maxLength"] for keywords in words if "maxLength" in keywords), default=None)
        if most is not None and least > most:
            return NO_TEXT
        if least or most is not None:
            terminals.append(f"/(?s:.{{{least},{'' if most is None else most}}})/")
        return " & ".join(terminals) or ANY_TEXT


def farthest(steps: Sequence[float]) -> float:
    """Multiples up to here have so few digits that a program's float is the same number."""
    places = max(0, *(-int(Decimal(repr(step)).normalize().as_tuple().exponent) for step in steps))
    if places >= DIGITS:
        raise RequestError(
            f"the keyword multipleOf is not supported with {places} decimal places", "give a larger step"
        )
    return float(10 ** (DIGITS - places))


def has_multiple(kind: str, steps: Sequence[float], low: float, high: float) -> bool:
    """Whether a range holds a number that is a multiple of all steps."""
    ratios = [Fraction(repr(step)) for step in [*steps, *([1] if kind == "integer" else [])]]
    if not ratios or math.isinf(low) or math.isinf(high):
        return True
    whole = math.lcm(*(ratio.denominator for ratio in ratios))
    common = Fraction(math.lcm(*(int(ratio * whole) for ratio in ratios)), whole)
    return math.floor(Fraction(high) / common) >= math.ceil(Fraction(low) / common)


def joined(rules: Iterable[str]) -> str:
    return " | ".join(rule for rule in rules if rule)


def text(word: str) -> str:
    return json.dumps(word, ensure_ascii=False)
