"""What the words of a call mean: a bare word, or a quoted number, is read as its schema has it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..language.control_tokens import QUOTE
from ..schema.json_schema import TYPES, Schema, resolved, same
from .syntax import Bare, CallError, CallParser, Fields, Tree, shortened

INTEGER = re.compile(r"[-+]?[0-9]{1,400}")
NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
WORDS = {"null": None, "None": None, "true": True, "True": True, "false": False, "False": False}


def parse_call(text: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a call as text, of which no schema is known.  Raises CallError."""
    parser = CallParser()
    for index, piece in enumerate(text.split(QUOTE)):
        if index:
            parser.push_quote()
        parser.push(piece)
    return parser.name, arguments_of(parser.tree(), {})


def arguments_of(tree: Fields, schema: Schema, *, by_look: bool = False) -> dict[str, Any]:
    """The arguments of a call whose parameters have this schema, {} if it is not known.

    `by_look`: words are what they look like, whatever the schema says of them.  Raises CallError.
    """
    arguments: dict[str, Any] = meaning(tree, [schema] if schema else [], schema, by_look)
    return arguments


def meaning(tree: Tree, schemas: Sequence[Any], root: Schema, by_look: bool) -> Any:
    """A value, read by the schemas of which it may have to fit any; where there are none, by its look."""
    near = alternatives(schemas, root)
    if isinstance(tree, Fields):
        return mapping(tree, near, root, by_look)
    if isinstance(tree, list):
        return [meaning(item, of_item(near, index), root, by_look) for index, item in enumerate(tree)]
    told = [] if by_look else [schema for schema in near if {"type", "enum", "const"} & schema.keys()]
    return of_word(tree.text, told) if isinstance(tree, Bare) else of_text(tree, told)


def mapping(tree: Fields, near: Sequence[Schema], root: Schema, by_look: bool) -> dict[str, Any]:
    """Read the pairs.  Of a free name the last value counts, as in JSON; a declared name twice is a mistake."""
    arguments: dict[str, Any] = {}
    for name, value in tree.pairs:
        if name in arguments and (not root or (near and not any(is_free(name, schema) for schema in near))):
            raise CallError(f"the argument {name!r} is there twice")
        arguments[name] = meaning(value, of_name(near, name), root, by_look)
    return arguments


def is_free(name: str, schema: Schema) -> bool:
    """Whether a schema allows a name that it does not declare."""
    if name in schema.get("properties", {}):
        return False
    if "additionalProperties" in schema or "patternProperties" in schema:
        return schema.get("additionalProperties") is not False or "patternProperties" in schema
    return not {"properties", "anyOf", "oneOf", "allOf", "$ref"} & schema.keys()


def alternatives(schemas: Sequence[Any], root: Schema) -> list[Schema]:
    """The schemas, and those that speak of the same value inside them."""
    waiting, near, seen = list(schemas), list[Schema](), set[int]()
    while waiting:
        schema = waiting.pop()
        schema = {} if schema is True else schema
        if not isinstance(schema, Mapping) or id(schema) in seen:
            continue
        seen.add(id(schema))
        near.append(schema)
        for keyword in ("allOf", "anyOf", "oneOf"):
            waiting += schema.get(keyword, ())
        waiting += [schema[keyword] for keyword in ("then", "else") if keyword in schema]
        waiting += [resolved(schema, root)] if "$ref" in schema else []
    return near


def of_name(near: Sequence[Schema], name: str) -> list[Any]:
    schemas = []
    for schema in near:
        if name in schema.get("properties", {}):
            schemas.append(schema["properties"][name])
        else:
            schemas += [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
    return schemas


def of_item(near: Sequence[Schema], index: int) -> list[Any]:
    schemas = []
    for schema in near:
        first = schema.get("prefixItems", ())
        schemas.append(first[index] if index < len(first) else schema.get("items"))
    return schemas


def of_word(word: str, told: Sequence[Schema]) -> Any:
    """A bare word is what it looks like; text where only that is allowed.  None is text only where an enum says so."""
    try:
        value = scalar(word)
    except CallError:
        if takes_any(told, word):
            return word
        raise
    if takes_any(told, value):
        return value
    as_text = told if value is not None else [schema for schema in told if {"enum", "const"} & schema.keys()]
    return word if takes_any(as_text, word) else value


def of_text(text: str, told: Sequence[Schema]) -> Any:
    """A quoted text is a number, true or false where only that is allowed."""
    if not told or takes_any(told, text):
        return text
    try:
        value = scalar(text)
    except CallError:
        return text
    return value if value is not None and takes_any(told, value) else text


def takes_any(told: Sequence[Schema], value: Any) -> bool:
    return any(takes(schema, value) for schema in told)


def takes(schema: Schema, value: Any) -> bool:
    """Whether the type and the values that a schema lists allow it."""
    if value is None and schema.get("nullable"):
        return True
    names = type_names(schema)
    if names and not any(TYPES[name](value) for name in names):
        return False
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    return listed is None or any(same(value, other) for other in listed)


def type_names(schema: Schema) -> Sequence[str]:
    names = schema.get("type", ())
    return [names] if isinstance(names, str) else names


def scalar(word: str) -> Any:
    """A bare word's value by its look: a number, null, true, false, else the word itself."""
    if word in WORDS:
        return WORDS[word]
    if INTEGER.fullmatch(word):
        return int(word)
    if not NUMBER.fullmatch(word):
        return word
    number = float(word)
    if not math.isfinite(number):
        raise CallError(f"{shortened(word)} is too large a number")
    return number
