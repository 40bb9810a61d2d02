"""The grammar of an answer in JSON: llguidance's own, where it holds what the schema says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from ..errors import RequestError
from .check import check_schema, written_schemas
from .guidance import AS_TEXT
from .json_schema import Schema, is_number
from .parts import DIGITS, EXACT

FORM = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
LEFT_OUT = ("x-guidance", "$schema")  # would switch checks off: llguidance's options, and drafts with fewer keywords
NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


def json_grammar(schema: Schema | bool) -> str:
    """Raises GemmaError for what is no schema, and for keywords that llguidance would loosen without a word.

    What it does not know it refuses itself, when the grammar is compiled.
    """
    check_schema(schema, "the schema")
    for path, part in written_schemas(schema, "the schema"):
        if path and isinstance(part, Mapping) and "$schema" in part:
            raise RequestError(
                f"the schema: {'/'.join(path)}/$schema: a part cannot have its own draft", "leave it out"
            )
        for keyword, why in loosened(part) if isinstance(part, Mapping) else ():
            where = "/".join([*path, keyword])
            raise RequestError(f"the schema: {where} is not supported: {why}", "leave it out")
    whole = schema if isinstance(schema, Mapping) else {"allOf": [schema]}  # true and false are schemas, too
    kept = {name: value for name, value in whole.items() if name not in LEFT_OUT}
    return f"{AS_TEXT}start: %json {json.dumps({**kept, 'x-guidance': FORM})}\n"


def loosened(part: Schema) -> Iterator[tuple[str, str]]:
    """Keywords that the grammar would not hold, and why."""
    listed = {"enum": part.get("enum", []), "const": [part.get("const")]}
    for keyword, values in (listed | {word: [part.get(word)] for word in NUMBERS}).items():
        if any(is_beyond(value) for value in values):
            yield keyword, f"integers beyond 2^53 and fractions of more than {DIGITS} digits lose some"
    free = part.get("additionalProperties", True) is not False or "patternProperties" in part
    if free and part.get("minProperties", 0) - len(part.get("required", ())) > 1:
        yield "minProperties", "a free name may come twice"


def is_beyond(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(is_beyond, value.values()))
    if isinstance(value, list):
        return any(map(is_beyond, value))
    if not is_number(value) or isinstance(value, int):
        return is_number(value) and abs(value) > EXACT
    return len(Decimal(repr(value)).normalize().as_tuple().digits) > DIGITS
