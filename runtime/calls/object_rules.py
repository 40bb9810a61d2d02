"""The rules of an object: its declared names in their order, then free ones, and how many there are."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import RequestError
from ..schema.json_schema import Schema
from ..schema.parts import Alternatives, Condition, required_names
from ..schema.text_pattern import ANY_TEXT, is_empty, matches, terminal_of_pattern
from .array_rules import COMMA, run
from .text import in_order, name_pieces

if TYPE_CHECKING:
    from .grammar import Rules

PLAIN_NAME = "/[A-Za-z0-9_$][A-Za-z0-9_.$-]*/"  # free names of this form may come without quotes
WAYS = 64  # most kinds of free names


@dataclass(frozen=True)
class Free:
    """Free names that match some patterns and not others, and what their values have to fit."""

    like: tuple[str, ...]
    unlike: tuple[str, ...]
    schemas: tuple[Any, ...]


def object_rule(rules: Rules, conditions: Sequence[Condition]) -> str:
    """The alternatives of an object that fits all conditions; "" if none does."""
    words = [condition.keywords for condition in conditions]
    required = required_names(conditions)
    declared = dict.fromkeys([*(name for keywords in words for name in keywords.get("properties", {})), *required])
    pairs = []
    for name, _ in in_order(declared):
        value = rules.of(list(schemas_of(name, words))) if allowed_name(rules, name, words) else ""
        if value:
            pairs.append((name in required, f'{rules.written(name_pieces(name))} ":" {value}'))
        elif name in required:
            return ""
    least = max((keywords.get("minProperties", 0) for keywords in words), default=0)
    most = min((keywords.get("maxProperties", math.inf) for keywords in words), default=math.inf)
    return sequence(rules, pairs, free_pair(rules, words, list(declared)), least, most)


def schemas_of(name: str, words: Sequence[Schema]) -> Iterator[Any]:
    """What the value of a declared name has to fit; one that is only required is not known to a closed object."""
    if is_closed(words) and not any(name in keywords.get("properties", {}) for keywords in words):
        yield False
    for keywords in words:
        here = [keywords["properties"][name]] if name in keywords.get("properties", {}) else []
        for pattern, schema in keywords.get("patternProperties", {}).items():
            terminal_of_pattern(pattern)  # raises where names can not be held against it
            here += [schema] if matches(pattern, name) else []
        yield from here or [rest_of_names(keywords)]


def allowed_name(rules: Rules, name: str, words: Sequence[Schema]) -> bool:
    return all(rules.parts.judge.fits(name, keywords.get("propertyNames", True)) for keywords in words)


def sequence(rules: Rules, pairs: Sequence[tuple[bool, str]], free: str, least: float, most: float) -> str:
    """Build the rule from the last pair to the first, for each count of pairs before it as far as the count matters."""
    counted = least > sum(needed for needed, _ in pairs) or most < math.inf
    top = int(min(most, len(pairs))) if counted else min(len(pairs), 1)
    states = [run(free, least - count if counted else 0, most - count, begun=count > 0) for count in range(top + 1)]
    if counted and free and least - top > 1:
        raise RequestError("the keyword minProperties is not supported where other names are allowed", "leave it out")
    if counted and free:
        states = [state if least - count <= 1 else "" for count, state in enumerate(states)]
    for needed, pair in reversed(pairs):
        states = [
            step(rules, needed, pair, count, states, last=count == top and counted and most <= top)
            for count in range(top + 1)
        ]
    return f'"{{" {states[0]} "}}"' if states[0] else ""


def step(rules: Rules, needed: bool, pair: str, count: int, states: Sequence[str], *, last: bool) -> str:
    after = "" if last else states[min(count + 1, len(states) - 1)]
    taken = f"{COMMA if count else ''} {pair} {after}" if after else ""
    left = "" if needed else states[count]
    both = [way for way in (taken, left) if way]
    return rules.named(" | ".join(both)) if taken else left


def free_pair(rules: Rules, words: Sequence[Schema], declared: Sequence[str]) -> str:
    """A rule for a name that is not declared and its value; "" where there is none."""
    ways = []
    for free in kinds_of_names(words):
        value = "" if any(schema is False for schema in free.schemas) else rules.of(free.schemas)
        name = free_name(rules, free, words, declared) if value else ""
        if name:
            ways.append(f'({name}) ":" {value}')
    return rules.named(" | ".join(ways)) if ways else ""


def free_name(rules: Rules, free: Free, words: Sequence[Schema], declared: Sequence[str]) -> str:
    rest = [terminal_of_pattern(pattern) for pattern in free.like]
    rest += [f"~{terminal_of_pattern(pattern)}" for pattern in free.unlike]
    rest += [f"~({' | '.join(json.dumps(name, ensure_ascii=False) for name in declared)})"] if declared else []
    rest += [names_terminal(rules, keywords["propertyNames"]) for keywords in words if "propertyNames" in keywords]
    bare, quoted = (" & ".join([begin, *rest]) for begin in (PLAIN_NAME, ANY_TEXT))
    ways = [] if is_empty(bare) else [rules.named(bare, "N")]
    ways += [] if is_empty(quoted) else [f"{rules.quote} {rules.named(quoted, 'N')} {rules.quote}"]
    return " | ".join(ways)


def names_terminal(rules: Rules, schema: Any) -> str:
    """The names that `propertyNames` allows."""
    parts = rules.parts.of([schema])
    conditions = [part for part in parts if isinstance(part, Condition)]
    known = {"type", "pattern", "minLength", "maxLength", "format", "title", "description"}
    if any(isinstance(part, Alternatives) or part.keywords.keys() - known for part in parts):
        raise RequestError("the keyword propertyNames is supported only with a pattern and lengths", "simplify it")
    return rules.text(conditions)


def kinds_of_names(words: Sequence[Schema]) -> list[Free]:
    """Each way in which a free name can stand to the patterns."""
    if is_closed(words):
        return []
    ways = [] if words else [Free((), (), ())]
    for way in itertools.islice(itertools.product(*map(own_kinds, words)), WAYS + 1 if words else 0):
        like, unlike, schemas = (tuple(itertools.chain(*lists)) for lists in zip(*way, strict=True))
        ways.append(Free(like, unlike, schemas))
    if len(ways) > WAYS:
        raise RequestError(f"the keyword patternProperties makes more than {WAYS} kinds of names", "use fewer patterns")
    return ways


def is_closed(words: Sequence[Schema]) -> bool:
    """A call has no names that nobody declared, though JSON's schemas allow them where nothing is said."""
    said = any({"additionalProperties", "patternProperties"} & keywords.keys() for keywords in words)
    return not said and any("properties" in keywords for keywords in words)


def own_kinds(keywords: Schema) -> list[tuple[tuple[str, ...], tuple[str, ...], tuple[Any, ...]]]:
    """Names that match one of the patterns alone, or none."""
    patterns = list(keywords.get("patternProperties", ()))
    ways: list[tuple[tuple[str, ...], tuple[str, ...], tuple[Any, ...]]] = [
        ((pattern,), tuple(other for other in patterns if other != pattern), (keywords["patternProperties"][pattern],))
        for pattern in patterns
    ]
    return [*ways, ((), tuple(patterns), (rest_of_names(keywords),))]


def rest_of_names(keywords: Schema) -> Any:
    """What holds for names that match no pattern: with both properties and patterns, no others are meant."""
    return keywords.get("additionalProperties", not {"properties", "patternProperties"} <= keywords.keys())
