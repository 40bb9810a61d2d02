"""Whether a value is what a JSON schema describes: the keywords that tools are declared with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .errors import GemmaError

Schema = Mapping[str, Any]
TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: is_number(value) and value == int(value),
    "number": lambda value: is_number(value),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def violation(value: Any, schema: Schema | bool, where: str = "", root: Schema | None = None) -> str:
    """The first thing that is wrong, as a sentence that a model can read; "" if nothing is.

    `where` is the path to the value, `root` the schema that `$ref` points into.
    """
    if isinstance(schema, bool):
        return "" if schema else f"{where or 'the value'} is not allowed"
    root = schema if root is None else root
    if value is None and schema.get("nullable"):
        return ""
    here = where or "the value"
    if "$ref" in schema:
        return violation(value, resolved(schema, root), where, root)
    return (
        wrong_type(value, schema, here)
        or wrong_choice(value, schema, here, root)
        or (wrong_number(value, schema, here) if is_number(value) else "")
        or (wrong_text(value, schema, here) if isinstance(value, str) else "")
        or (wrong_array(value, schema, here, root) if isinstance(value, list) else "")
        or (wrong_object(value, schema, where, root) if isinstance(value, dict) else "")
    )


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def resolved(schema: Schema, root: Schema) -> Schema:
    """What a `$ref` of the form `#/a/b` points to.  Raises GemmaError if nothing is there."""
    found: Any = root
    for part in str(schema["$ref"]).split("/")[1:]:
        found = found.get(part) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or "$ref" in found:
        raise GemmaError(f"the schema's $ref {schema['$ref']!r} leads to no schema", "refer to one in $defs")
    return found


def wrong_type(value: Any, schema: Schema, here: str) -> str:
    asked = schema.get("type")
    names = [asked] if isinstance(asked, str) else list(asked or [])
    if not names or any(TYPES[name](value) for name in names if name in TYPES):
        return ""
    return f"{here} is {value!r:.40}, not of the type {' or '.join(names)}"


def wrong_choice(value: Any, schema: Schema, here: str, root: Schema) -> str:
    if "enum" in schema and not any(same(value, one) for one in schema["enum"]):
        return f"{here} is {value!r:.40}, not one of {', '.join(map(repr, schema['enum']))}"
    if "const" in schema and not same(value, schema["const"]):
        return f"{here} is {value!r:.40}, not {schema['const']!r}"
    for part in schema.get("allOf", ()):
        if wrong := violation(value, part, here, root):
            return wrong
    for keyword in ("anyOf", "oneOf"):
        wrongs = [violation(value, part, here, root) for part in schema.get(keyword, ())]
        if wrongs and all(wrongs):
            return f"{here} fits no alternative: {wrongs[0]}"
        if keyword == "oneOf" and wrongs.count("") > 1:
            return f"{here} fits more than one alternative"
    return ""


def same(a: Any, b: Any) -> bool:
    """Equal as JSON, where true is not 1."""
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def wrong_number(value: Any, schema: Schema, here: str) -> str:
    tests: list[tuple[str, Callable[[Any], bool], str]] = [
        ("minimum", lambda edge: value >= edge, "at least"),
        ("maximum", lambda edge: value <= edge, "at most"),
        ("exclusiveMinimum", lambda edge: value > edge, "more than"),
        ("exclusiveMaximum", lambda edge: value < edge, "less than"),
        ("multipleOf", lambda edge: (value / edge).is_integer(), "a multiple of"),
    ]
    for keyword, fits, words in tests:
        if keyword in schema and not fits(schema[keyword]):
            return f"{here} is {value}, not {words} {schema[keyword]}"
    return ""


def wrong_text(value: str, schema: Schema, here: str) -> str:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        return f"{here} has {len(value)} characters, outside minLength and maxLength"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return f"{here} is {value!r:.40}, which does not match {schema['pattern']}"
    return ""


def wrong_array(value: list[Any], schema: Schema, here: str, root: Schema) -> str:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return f"{here} has {len(value)} items, outside minItems and maxItems"
    first = schema.get("prefixItems", [])
    for index, item in enumerate(value):
        kind = first[index] if index < len(first) else schema.get("items", True)
        if wrong := violation(item, kind, f"{here}[{index}]", root):
            return wrong
    return ""


def wrong_object(value: dict[str, Any], schema: Schema, where: str, root: Schema) -> str:
    known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name in schema.get("required", ()):
        if name not in value:
            return f"{under(where, name)} is missing"
    for name, item in value.items():
        if name not in known and more is False:
            return f"{under(where, name)} is not known; known are {', '.join(known) or 'none'}"
        if wrong := violation(item, known.get(name, more), under(where, name), root):
            return wrong
    return ""


def under(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
