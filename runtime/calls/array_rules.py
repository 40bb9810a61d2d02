"""The rules of an array: its first items, those behind them, how many, and none twice where they are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..schema.json_schema import Schema, canonical
from ..schema.parts import Alternatives, Condition, SchemaPart, SchemaParts, finite, kinds

if TYPE_CHECKING:
    from .grammar import Rules

UNIQUE = 64  # most values to choose from where none may come twice: the bits that a rule can carry
EMPTY, COMMA = '""', '","'


def array_rule(rules: Rules, conditions: Sequence[Condition]) -> str:
    """The alternatives of an array that fits all conditions; "" if none does."""
    words = [condition.keywords for condition in conditions]
    least = max((keywords.get("minItems", 0) for keywords in words), default=0)
    most = min((keywords.get("maxItems", math.inf) for keywords in words), default=math.inf)
    first = max((len(keywords.get("prefixItems", ())) for keywords in words), default=0)
    if least > most:
        return ""
    if most > 1 and any(keywords.get("uniqueItems") for keywords in words):
        return unique(rules, [item(rules.parts, index, words) for index in range(first + 1)], least, most)
    rest = rules.value(item(rules.parts, first, words)) if most > first else ""
    body = run(rest, least - first, most - first, begun=first > 0)
    for index in range(first - 1, -1, -1):
        body = lead(rules, item(rules.parts, index, words), index, body, least, most)
    return f'"[" {body} "]"' if body else ""


def item(parts: SchemaParts, index: int, words: Sequence[Schema]) -> tuple[SchemaPart, ...]:
    schemas: list[Any] = []
    for keywords in words:
        prefix = keywords.get("prefixItems", ())
        schemas.append(prefix[index] if index < len(prefix) else keywords.get("items", True))
    return parts.of(schemas)


def lead(rules: Rules, parts: Sequence[SchemaPart], index: int, rest: str, least: float, most: float) -> str:
    """One of the first items and what follows it; the array may end before it if there are enough."""
    value = rules.value(parts) if rest and index < most else ""
    go = f"{COMMA if index else ''} {value} {rest}" if value else ""
    if index < least:
        return rules.named(go) if go else ""
    return rules.named(f"({go})?") if go else EMPTY


def run(rule: str, least: float, most: float, *, begun: bool) -> str:
    """So many of a rule with commas between them, also before the first where something came before; "" if none."""
    least = max(least, 0)
    if not rule or most <= 0:
        return "" if least > 0 else EMPTY
    if begun:
        return repeated(f'"," {rule}', least, most)
    more = f"{rule} {repeated(f'{COMMA} {rule}', max(least - 1, 0), most - 1)}"
    return more if least else f"({more})?"


def repeated(rule: str, least: float, most: float) -> str:
    if most <= 0:
        return EMPTY
    return f"({rule}){{{least:.0f},{'' if math.isinf(most) else f'{most:.0f}'}}}"


def unique(rules: Rules, items: Sequence[Sequence[SchemaPart]], least: float, most: float) -> str:
    """Each value at most once, in any order: a rule that carries one bit for each."""
    values = listed(rules.parts, items[0]) if len(items) == 1 else None
    if values is None or len(values) > UNIQUE:
        raise RequestError(
            f"the keyword uniqueItems is supported only for items of an enum with at most {UNIQUE} values",
            "leave it out",
        )
    most = min(most, len(values))
    if least > most:
        return ""
    literals = [rules.named(rules.literal(value)) for value in values]
    first, more = rules.reserve("u"), rules.reserve("u")
    begun = [f"{literal} {more}::set_bit({bit})" for bit, literal in enumerate(literals)]
    again = [f'"," {item} %if and(bit_clear({bit}), bit_count_lt(_, {most:.0f}))' for bit, item in enumerate(begun)]
    enough = f'"" %if bit_count_ge(_, {max(least, 1):.0f})'
    rules.lines += [f"{first}::_: {' | '.join(begun)}", f"{more}::_: {' | '.join([enough, *again])}"]
    whole = f'"[" {first}::0x0 "]"'
    if not values:
        return '"[" "]"'
    return whole if least else f'"[" "]" | {whole}'


def listed(parts: SchemaParts, of: Sequence[SchemaPart]) -> list[Any] | None:
    """All values that fit, each once, where there are only some."""
    choice = next((part for part in of if isinstance(part, Alternatives)), None)
    if choice:
        rest = [part for part in of if part is not choice]
        lists = [listed(parts, [*rest, *parts.of([schema])]) for schema in choice.schemas]
    else:
        conditions = [part for part in of if isinstance(part, Condition)]
        lists = [finite(parts, kind, conditions) for kind in kinds(conditions)]
    if any(values is None for values in lists):
        return None
    return list({canonical(value): value for values in lists for value in values or ()}.values())
