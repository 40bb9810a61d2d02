"""Schemas from outside: what is none is refused before an answer begins, with its keyword and place."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.calls.tool_schema import declarations
from runtime.errors import GemmaError
from runtime.schema.check import DEPTH, check_schema


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


def references(wide: int, deep: int) -> dict[str, Any]:
    """A chain in which every schema refers to the next so many times."""
    parts = {str(at): {"allOf": [{"$ref": f"#/$defs/{at + 1}"}] * wide} for at in range(deep)}
    return {"$ref": "#/$defs/0", "$defs": {**parts, str(deep): {}}}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"minLength": "x"}, "the schema: minLength: 'x' is not of type 'integer'"),
        ({"properties": {"a": {"multipleOf": 0}}}, "properties/a/multipleOf: 0 is less than"),
        ({"items": {"anyOf": ["x"]}}, "items/anyOf/0: 'x'"),
        ({"anyOf": 5}, "anyOf: 5"),
        ({"properties": 5}, "properties: 5"),
        ({"type": "nonsense"}, "type: 'nonsense'"),
        ({"not": {"required": "a"}}, "not/required: 'a'"),
        ({"exclusiveMinimum": True}, "exclusiveMinimum: True"),
        ({"items": [{}]}, "items: "),
        ({"$defs": {"a": {"minItems": -1}}}, r"\$defs/a/minItems: -1"),
        ({"pattern": "("}, "pattern: '\\('"),
        ({"patternProperties": {"a{2,1}": {}}}, "a\\{2,1\\}"),
        ({"$ref": "#/nowhere"}, "points to no schema"),
        ({"$ref": "https://example.com/x"}, "leads out of the schema"),
        ({"$dynamicRef": "#x"}, "dynamicRef is not supported"),
        ({"enum": [{1, 2}]}, "the schema is not JSON"),
        ({"const": float("nan")}, "the schema is not JSON"),
        ({"const": "\ud800"}, "the schema is not JSON"),
        (nested(DEPTH + 1), "more than 64 schemas deep"),
        (nested(2000), "the schema is"),
        (references(14, 8), "more than 5000 parts"),
        (references(2, 30), "more than 5000 parts"),
        ({"properties": {f"p{at}": {} for at in range(5000)}}, "more than 5000 parts"),
    ],
)
def test_what_is_no_schema_is_named(schema, message):
    with pytest.raises(GemmaError, match=message):
        check_schema(schema, "the schema")


@pytest.mark.parametrize(
    "schema",
    [
        nested(DEPTH),
        references(1, 30),
        {"properties": {"pattern": {"type": "string"}, "allOf": {}, "$ref": {}, "type": {"minimum": 1}}},
        {"allOf": [{"$ref": "#"}]},
        {"$defs": {"a/b": {}, "c~d": {}}, "allOf": [{"$ref": "#/$defs/a~1b"}, {"$ref": "#/$defs/c~0d"}]},
        {"pattern": "(?=a)\\bword"},
        {"nullable": True, "x-of-somebody": 5},
    ],
)
def test_schemas_are_taken(schema):
    check_schema(schema, "the schema")


def test_a_schema_that_refers_to_itself_widely_is_one():
    wide = {"properties": {str(at): {"$ref": "#"} for at in range(14)}}
    check_schema(wide, "the schema")


def test_a_tool_is_checked_under_its_name():
    tool = {"name": "paint", "parameters": {"type": "object", "properties": {"a": {"minLength": "x"}}}}
    with pytest.raises(GemmaError, match="the schema of paint: properties/a/minLength"):
        declarations([tool])
