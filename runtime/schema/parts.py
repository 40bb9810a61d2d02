"""A JSON schema taken apart: conditions that hold together, and choices among further parts.

References and allOf disappear: what they lead to holds as well.  A schema that leads back to itself adds
nothing the second time, so that every set of parts is finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

from ..errors import RequestError
from .json_schema import Judge, Schema, resolved

TAKEN_APART = ("$ref", "allOf", "anyOf", "oneOf", "nullable")
KINDS = ("null", "boolean", "number", "string", "array", "object")
ALL_VALUES: dict[str, list[Any]] = {"null": [None], "boolean": [True, False]}
EXACT = 2**53  # integers up to here are the same in every program that reads JSON
DIGITS = 15  # so are fractions of so many digits; llguidance reads those with more to the last bit but one
NEAR_ZERO = 1e-15  # behind a range's end at zero: a number next to it would have hundreds of digits
OPEN = ("exclusiveMinimum", "exclusiveMaximum")
EDGES = ("minimum", "maximum", *OPEN)
NOT_HELD = {  # keywords that no grammar holds, by the kind of value that they speak of
    "": ("not", "then", "else"),
    "array": ("contains", "minContains", "maxContains", "unevaluatedItems", "additionalItems"),
    "object": ("dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties"),
    "string": ("contentSchema",),
}


@dataclass(frozen=True, eq=False)
class Condition:
    """Keywords of one schema that all hold."""

    keywords: Schema


@dataclass(frozen=True, eq=False)
class Alternatives:
    """Some schemas of which one holds; with oneOf exactly one."""

    keyword: str
    schemas: Sequence[Any]


SchemaPart = Condition | Alternatives
NOTHING = Condition({"enum": []})
NULL = {"type": "null"}


class SchemaParts:
    """Takes the schemas of one document apart; the same schema gives the same parts."""

    def __init__(self, root: Schema) -> None:
        self.root = root
        self.judge = Judge(root)
        self._own: dict[int, tuple[SchemaPart, ...]] = {}
        self._kept: list[Any] = []  # schemas made here, so that no other gets their id

    def of(self, schemas: Sequence[Any]) -> tuple[SchemaPart, ...]:
        """The parts of schemas that hold together, each once."""
        parts: dict[SchemaPart, None] = {}
        self._collect(schemas, parts, set())
        return tuple(parts)

    def _collect(self, schemas: Sequence[Any], parts: dict[SchemaPart, None], seen: set[int]) -> None:
        for schema in schemas:
            if schema is False:
                parts[NOTHING] = None
            if not isinstance(schema, Mapping) or id(schema) in seen:
                continue
            seen.add(id(schema))
            parts.update(dict.fromkeys(self._parts(schema)))
            if not schema.get("nullable"):
                targets = [resolved(schema, self.root)] if "$ref" in schema else []
                self._collect([*targets, *schema.get("allOf", ())], parts, seen)

    def _parts(self, schema: Schema) -> tuple[SchemaPart, ...]:
        if id(schema) not in self._own:
            self._own[id(schema)] = tuple(self._made(schema))
            self._kept.append(schema)
        return self._own[id(schema)]

    def _made(self, schema: Schema) -> Iterator[SchemaPart]:
        if schema.get("nullable"):
            yield Alternatives(
                "nullable", [{name: value for name, value in schema.items() if name != "nullable"}, NULL]
            )
            return
        keywords = {name: value for name, value in schema.items() if name not in TAKEN_APART}
        if keywords:
            yield Condition(keywords)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                yield Alternatives(keyword, schema[keyword])


def kinds(conditions: Sequence[Condition]) -> list[str]:
    """The types that all conditions allow; where none names any, properties mean an object."""
    allowed = set(KINDS)
    named = [condition.keywords["type"] for condition in conditions if "type" in condition.keywords]
    if not named and any("properties" in condition.keywords for condition in conditions):
        return ["object"]
    for names in named:
        types = {names} if isinstance(names, str) else set(names)
        both = allowed & types
        if "integer" in types and "number" in allowed and "number" not in types:
            both.add("integer")
        if "number" in types and "integer" in allowed:
            both.add("integer")
        allowed = both
    return [kind for kind in ("null", "boolean", "integer", "number", "string", "array", "object") if kind in allowed]


def check_held(kind: str, conditions: Sequence[Condition]) -> None:
    """Raises GemmaError for a keyword that calls can not be held to."""
    for condition in conditions:
        for keyword in (*NOT_HELD[""], *NOT_HELD.get(kind, ())):
            if keyword in condition.keywords:
                raise RequestError(
                    f"the keyword {keyword} is not supported in strict tools", "leave out the keyword, or strict"
                )


def finite(parts: SchemaParts, kind: str, conditions: Sequence[Condition]) -> list[Any] | None:
    """The values of a kind, where there are only some: of an enum, a const, or a type that has no others."""
    listed = [listed_values(condition.keywords) for condition in conditions]
    values = next((choices for choices in listed if choices is not None), ALL_VALUES.get(kind))
    if values is None:
        return None
    typed: list[Schema] = [{"type": kind}, *(condition.keywords for condition in conditions)]
    return [value for value in values if all(parts.judge.fits(value, schema) for schema in typed)]


def listed_values(keywords: Schema) -> list[Any] | None:
    if "const" in keywords:
        return [keywords["const"]]
    return keywords.get("enum")


def disjoint(parts: SchemaParts, left: Sequence[SchemaPart], right: Sequence[SchemaPart], depth: int = 4) -> bool:
    """Whether it is certain that no value fits both."""
    for here, there in ((left, right), (right, left)):
        choice = next((part for part in here if isinstance(part, Alternatives)), None)
        if choice:
            rest = [part for part in here if part is not choice]
            return all(disjoint(parts, [*rest, *parts.of([branch])], there, depth) for branch in choice.schemas)
    first, second = ([part for part in side if isinstance(part, Condition)] for side in (left, right))
    return all(distinct(parts, kind, first, second, depth) for kind in kinds([*first, *second]))


def distinct(parts: SchemaParts, kind: str, left: Sequence[Condition], right: Sequence[Condition], depth: int) -> bool:
    """The same for values of one kind: some list has none for both, ranges do not meet, or a property differs."""
    together = [*left, *right]
    values = finite(parts, kind, together)
    if values is not None:
        return not values
    if kind in ("integer", "number"):
        low, high = number_range(kind, together)
        return low > high
    return (
        kind == "object"
        and depth > 0
        and any(differs(parts, name, left, right, depth) for name in required_names(together))
    )


def differs(parts: SchemaParts, name: str, left: Sequence[Condition], right: Sequence[Condition], depth: int) -> bool:
    sides = [
        [
            condition.keywords["properties"][name]
            for condition in side
            if name in condition.keywords.get("properties", {})
        ]
        for side in (left, right)
    ]
    return disjoint(parts, parts.of(sides[0]), parts.of(sides[1]), depth - 1)


def required_names(conditions: Sequence[Condition]) -> list[str]:
    names = [name for condition in conditions for name in condition.keywords.get("required", ())]
    return list(dict.fromkeys(names))


def number_range(kind: str, conditions: Sequence[Condition]) -> tuple[float, float]:
    """The least and the greatest number that all conditions allow, infinite where they name none."""
    low, high = -math.inf, math.inf
    for condition in conditions:
        for word in (word for word in EDGES if word in condition.keywords):
            edge = condition.keywords[word]
            if kind == "integer" and abs(edge) > EXACT:
                raise RequestError(
                    f"the keyword {word} {edge} is not supported: it is beyond 2^53", "give a smaller number"
                )
            if word.endswith("inimum"):
                low = max(low, inside(kind, edge, 1, open_end=word in OPEN))
            else:
                high = min(high, inside(kind, edge, -1, open_end=word in OPEN))
    return low, high


def inside(kind: str, edge: float, sign: int, *, open_end: bool) -> float:
    """The first number that is inside a range, written in so few digits that every program reads the same."""
    written = Decimal(repr(edge))
    digits = Context(DIGITS, rounding=ROUND_CEILING if sign > 0 else ROUND_FLOOR)
    if kind == "integer":
        whole = int(written.to_integral_value(digits.rounding))
        return whole + sign if open_end and whole == edge else whole
    first = digits.create_decimal(written)
    if not open_end or first != written:
        return float(first)
    if not first:
        return sign * NEAR_ZERO
    return float(digits.next_plus(first) if sign > 0 else digits.next_minus(first))
