"""Whether a value is what a JSON schema (draft 2020-12) describes, said so that a model can mend it.

jsonschema is the judge in the tests; here a value is checked without it, because it would match patterns
with Python's `re`, divide floats to find multiples, and check a part again in every alternative.
"""

from __future__ import annotations

import json
import math
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from ..errors import RequestError
from .text_pattern import matches

Schema = Mapping[str, Any]
TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: is_number(value) and (isinstance(value, int) or value.is_integer()),
    "number": lambda value: is_number(value),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
# The keywords that hold a schema, a list of schemas, schemas by name.
ONE = ("items", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else")
ONE_LEFT = ("unevaluatedItems", "unevaluatedProperties")
MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
NAMED = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")


def violation(value: Any, schema: Schema | bool, where: str = "", root: Schema | None = None) -> str:
    """The first thing that is wrong, as a sentence that a model can read; "" if nothing is.

    `where` is the path to the value, `root` the schema that `$ref` points into.
    """
    return Judge(schema if root is None and isinstance(schema, Mapping) else root or {}).wrong(value, schema, where)


def subschemas(schema: Schema) -> Iterator[tuple[str, Any]]:
    """What a schema holds, with the path to it; names of properties are data, and no keywords."""
    for keyword in (*ONE, *ONE_LEFT):
        if keyword in schema:
            yield keyword, schema[keyword]
    for keyword in MANY:
        if isinstance(schema.get(keyword), list):
            yield from ((f"{keyword}/{index}", item) for index, item in enumerate(schema[keyword]))
    for keyword in NAMED:
        if isinstance(schema.get(keyword), Mapping):
            yield from ((f"{keyword}/{name}", item) for name, item in schema[keyword].items())


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def resolved(schema: Schema, root: Schema) -> Schema | bool:
    """What a `$ref` of the form `#/a/b` points to.  Raises GemmaError if no schema is there."""
    target: Any = root
    reference = urllib.parse.unquote(str(schema["$ref"]))
    if reference != "#" and not reference.startswith("#/"):
        raise RequestError(f"the schema's $ref {reference!r:.80} leads out of the schema", "refer to one in $defs")
    for part in reference.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(target, list):
            target = target[int(part)] if part.isdecimal() and int(part) < len(target) else None
        else:
            target = target.get(part) if isinstance(target, Mapping) else None
    if not isinstance(target, (Mapping, bool)):
        raise RequestError(f"the schema's $ref {reference!r:.80} points to no schema", "refer to one in $defs")
    return target


class Judge:
    """Checks values against the parts of one schema; each part is checked once for each value."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        # The value and the schema are kept with what was found, so that no other gets their id.
        self._known: dict[tuple[int, int, str], tuple[str, Any, Any]] = {}

    def wrong(self, value: Any, schema: Schema | bool, where: str) -> str:
        """The first thing that is wrong."""
        if isinstance(schema, bool):
            return "" if schema else f"{where or 'the value'} is not allowed"
        key = id(value), id(schema), where
        if key not in self._known:
            self._known[key] = "", value, schema  # a schema that comes back to itself asks for nothing more
            self._known[key] = self._first(value, schema, where), value, schema
        return self._known[key][0]

    def fits(self, value: Any, schema: Schema | bool) -> bool:
        return not self.wrong(value, schema, "")

    def _first(self, value: Any, schema: Schema, where: str) -> str:
        if value is None and schema.get("nullable"):
            return ""
        here = where or "the value"
        if "$ref" in schema and (wrong := self.wrong(value, resolved(schema, self._root), where)):
            return wrong
        return (
            wrong_type(value, schema, here)
            or wrong_choice(value, schema, here)
            or self._alternatives(value, schema, where)
            or (wrong_number(value, schema, here) if is_number(value) else "")
            or (wrong_text(value, schema, here) if isinstance(value, str) else "")
            or (self._array(value, schema, here) if isinstance(value, list) else "")
            or (self._object(value, schema, where) if isinstance(value, dict) else "")
        )

    def _alternatives(self, value: Any, schema: Schema, where: str) -> str:
        here = where or "the value"
        for part in schema.get("allOf", ()):
            if wrong := self.wrong(value, part, where):
                return wrong
        for keyword in ("anyOf", "oneOf"):
            wrongs = [self.wrong(value, part, where) for part in schema.get(keyword, ())]
            if wrongs and all(wrongs):
                return f"{here} fits no alternative: {wrongs[0]}"
            if keyword == "oneOf" and wrongs.count("") > 1:
                return f"{here} fits more than one alternative"
        if "not" in schema and self.fits(value, schema["not"]):
            return f"{here} is {value!r:.40}, which is ruled out"
        if "if" in schema:
            return self.wrong(value, schema.get("then" if self.fits(value, schema["if"]) else "else", True), where)
        return ""

    def _array(self, value: list[Any], schema: Schema, here: str) -> str:
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return f"{here} has {len(value)} items, outside minItems and maxItems"
        if schema.get("uniqueItems") and len(set(map(canonical, value))) < len(value):
            return f"{here} has an item twice"
        first = schema.get("prefixItems", [])
        for index, item in enumerate(value):
            kind = first[index] if index < len(first) else schema.get("items", True)
            if wrong := self.wrong(item, kind, f"{here}[{index}]"):
                return wrong
        if "contains" in schema:
            count = sum(self.fits(item, schema["contains"]) for item in value)
            if not schema.get("minContains", 1) <= count <= schema.get("maxContains", count):
                return f"{here} has {count} items of the kind that it must contain, outside minContains and maxContains"
        if "unevaluatedItems" in schema:
            known = self._known_items(value, schema)
            for index in set(range(len(value))) - known:
                if wrong := self.wrong(value[index], schema["unevaluatedItems"], f"{here}[{index}]"):
                    return wrong
        return ""

    def _object(self, value: dict[str, Any], schema: Schema, where: str) -> str:
        here, properties = where or "the value", schema.get("properties", {})
        for name in missing(value, schema):
            return f"{under(where, name)} is missing"
        if not schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", len(value)):
            return f"{here} has {len(value)} properties, outside minProperties and maxProperties"
        for name, item in value.items():
            for kind in self._kinds(name, schema):
                if kind is False and name not in properties:
                    return unknown(name, schema, where)
                if wrong := self.wrong(item, kind, under(where, name)):
                    return wrong
            if wrong := self.wrong(name, schema.get("propertyNames", True), f"the name {name!r:.40}"):
                return wrong
        for name, part in schema.get("dependentSchemas", {}).items():
            if name in value and (wrong := self.wrong(value, part, where)):
                return wrong
        if "unevaluatedProperties" in schema:
            known = self._known_names(value, schema)
            for name in [name for name in value if name not in known]:
                if schema["unevaluatedProperties"] is False:
                    return unknown(name, schema, where)
                if wrong := self.wrong(value[name], schema["unevaluatedProperties"], under(where, name)):
                    return wrong
        return ""

    def _kinds(self, name: str, schema: Schema) -> list[Schema | bool]:
        """The schemas that a property has to fit."""
        kinds = [schema["properties"][name]] if name in schema.get("properties", {}) else []
        kinds += [part for pattern, part in schema.get("patternProperties", {}).items() if matches(pattern, name)]
        return kinds or [schema.get("additionalProperties", True)]

    def _known_names(self, value: dict[str, Any], schema: Schema) -> set[str]:
        """The properties that some part of the schema that holds has looked at."""
        if "additionalProperties" in schema:
            return set(value)
        names = {name for name in value if name in schema.get("properties", {})}
        names |= {name for name in value for pattern in schema.get("patternProperties", {}) if matches(pattern, name)}
        for part in self._holding(value, schema):
            names |= set(value) if "unevaluatedProperties" in part else self._known_names(value, part)
        return names

    def _known_items(self, value: list[Any], schema: Schema) -> set[int]:
        if "items" in schema:
            return set(range(len(value)))
        known = set(range(min(len(value), len(schema.get("prefixItems", [])))))
        if "contains" in schema:
            known |= {index for index, item in enumerate(value) if self.fits(item, schema["contains"])}
        for part in self._holding(value, schema):
            known |= set(range(len(value))) if "unevaluatedItems" in part else self._known_items(value, part)
        return known

    def _holding(self, value: Any, schema: Schema) -> Iterator[Schema]:
        """The parts of a schema that speak of the same value, and that it fits."""
        parts = [resolved(schema, self._root)] if "$ref" in schema else []
        parts += [part for keyword in ("allOf", "anyOf", "oneOf") for part in schema.get(keyword, ())]
        if "if" in schema:
            parts += [schema["if"], schema.get("then" if self.fits(value, schema["if"]) else "else", True)]
        if isinstance(value, dict):
            parts += [part for name, part in schema.get("dependentSchemas", {}).items() if name in value]
        yield from (part for part in parts if isinstance(part, Mapping) and self.fits(value, part))


def unknown(name: str, schema: Schema, where: str) -> str:
    return f"{under(where, name)} is not known; known are {', '.join(schema.get('properties', ())) or 'none'}"


def missing(value: dict[str, Any], schema: Schema) -> list[str]:
    needed = [*schema.get("required", ())]
    needed += [name for cause, names in schema.get("dependentRequired", {}).items() if cause in value for name in names]
    return [name for name in needed if name not in value]


def wrong_type(value: Any, schema: Schema, here: str) -> str:
    asked = schema.get("type")
    names = [asked] if isinstance(asked, str) else list(asked or [])
    if not names or any(TYPES[name](value) for name in names):
        return ""
    return f"{here} is {value!r:.40}, not of the type {' or '.join(names)}"


def wrong_choice(value: Any, schema: Schema, here: str) -> str:
    if "enum" in schema and not any(same(value, item) for item in schema["enum"]):
        return f"{here} is {value!r:.40}, not one of {', '.join(map(repr, schema['enum']))}"
    if "const" in schema and not same(value, schema["const"]):
        return f"{here} is {value!r:.40}, not {schema['const']!r}"
    return ""


def same(a: Any, b: Any) -> bool:
    """Equal as JSON, where true is not 1, and 1.0 is."""
    return bool(a == b) and canonical(a) == canonical(b)  # Python's == is coarser, and takes values of any depth


def canonical(value: Any) -> str:
    """The same text for values that are equal."""
    return json.dumps(plain_numbers(value), sort_keys=True)


def plain_numbers(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: plain_numbers(item) for name, item in value.items()}
    return [plain_numbers(item) for item in value] if isinstance(value, list) else value


def wrong_number(value: Any, schema: Schema, here: str) -> str:
    tests: list[tuple[str, Callable[[Any], bool], str]] = [
        ("minimum", lambda edge: value >= edge, "at least"),
        ("maximum", lambda edge: value <= edge, "at most"),
        ("exclusiveMinimum", lambda edge: value > edge, "more than"),
        ("exclusiveMaximum", lambda edge: value < edge, "less than"),
        ("multipleOf", lambda step: is_multiple(value, step), "a multiple of"),
    ]
    for keyword, fits, words in tests:
        if keyword in schema and not fits(schema[keyword]):
            return f"{here} is {value}, not {words} {schema[keyword]}"
    return ""


def is_multiple(value: float, step: float) -> bool:
    """Divide the numbers as they are written, so that 0.3 is three times 0.1."""
    if isinstance(value, float) and not math.isfinite(value):
        return False
    (top, bottom), (step_top, step_bottom) = (Decimal(repr(number)).as_integer_ratio() for number in (value, step))
    return (top * step_bottom) % (bottom * step_top) == 0


def wrong_text(value: str, schema: Schema, here: str) -> str:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        return f"{here} has {len(value)} characters, outside minLength and maxLength"
    if "pattern" in schema and not matches(schema["pattern"], value):
        return f"{here} is {value!r:.40}, which does not match {schema['pattern']}"
    return ""


def under(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
