"""What a schema allows, and how what it does not is said."""

from __future__ import annotations

import re
from typing import Any

import pytest

from runtime.errors import GemmaError
from runtime.schema.json_schema import violation

NESTED = {
    "type": "object",
    "properties": {"list": {"type": "array", "items": {"$ref": "#/$defs/row"}}},
    "$defs": {"row": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
}


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (None, {"type": "null"}),
        (None, {"type": "string", "enum": ["a"], "nullable": True}),
        (3.0, {"type": "integer"}),
        (10**400, {"type": "integer", "minimum": 0.5, "enum": [10**400]}),
        (3, {"type": ["string", "number"]}),
        ("b", {"enum": ["a", "b"]}),
        ([1, "x"], {"type": "array", "minItems": 2, "prefixItems": [{"type": "integer"}], "items": {"type": "string"}}),
        ({"a": 1, "b": 2}, {"properties": {"a": {"const": 1}}}),
        ("x12", {"pattern": "[0-9]+"}),
        (4, {"anyOf": [{"type": "string"}, {"minimum": 4, "exclusiveMaximum": 5, "multipleOf": 2}]}),
        ("a", {"oneOf": [{"type": "string"}, {"type": "integer"}], "allOf": [{"maxLength": 1}]}),
        ({"list": [{"n": 1}]}, NESTED),
    ],
)
def test_allowed(value, schema):
    assert violation(value, schema) == ""


@pytest.mark.parametrize(
    ("value", "schema", "problem"),
    [
        (True, {"type": "integer"}, "the value is True, not of the type integer"),
        (1.5, {"type": "integer"}, "not of the type integer"),
        (None, {"type": ["string", "integer"]}, "not of the type string or integer"),
        (True, {"enum": [1]}, "not one of 1"),
        (2, {"const": 1}, "not 1"),
        (3, {"minimum": 4}, "not at least 4"),
        (4, {"exclusiveMaximum": 4}, "not less than 4"),
        (3, {"multipleOf": 2}, "not a multiple of 2"),
        ("abc", {"maxLength": 2}, "has 3 characters"),
        ("abc", {"pattern": "^b"}, "does not match"),
        ([], {"minItems": 1}, "has 0 items"),
        ([1, "x"], {"items": {"type": "integer"}}, r"\[1\] is 'x'"),
        ({}, {"required": ["a"]}, "a is missing"),
        ({"b": 1}, {"properties": {"a": {}}, "additionalProperties": False}, "b is not known; known are a"),
        ({"b": 1}, {"additionalProperties": {"type": "string"}}, "b is 1, not of the type string"),
        (1, {"anyOf": [{"type": "string"}, {"type": "null"}]}, "fits no alternative"),
        (1, {"oneOf": [{}, {}]}, "more than one alternative"),
        (1, {"allOf": [{}, {"minimum": 2}]}, "not at least 2"),
        ({"list": [{"n": 1}, {}]}, NESTED, r"list\[1\].n is missing"),
    ],
)
def test_refused_with_the_path(value, schema, problem):
    assert re.search(problem, violation(value, schema))


def test_a_reference_to_nothing_is_refused():
    with pytest.raises(GemmaError, match="points to no schema"):
        violation(1, {"$ref": "#/$defs/x"})
    with pytest.raises(GemmaError, match="leads out of the schema"):
        violation(1, {"$ref": "https://example.com/schema"})


@pytest.mark.parametrize(
    ("value", "step", "fits"),
    [(0.3, 0.1, True), (0.9, 0.3, True), (1, 0.3, False), (0.35, 0.1, False), (1e22, 2, True), (7, 1e-7, True),
     (10**400, 3, False), (-0.3, 0.1, True), (0, 5, True), (1e300, 1e-300, True)],
)  # fmt: skip
def test_multiples_are_those_of_the_written_numbers(value, step, fits):
    assert (violation(value, {"multipleOf": step}) == "") == fits


def test_a_schema_that_leads_back_to_itself_ends():
    assert violation(1, {"allOf": [{"$ref": "#"}, {"type": "integer"}]}) == ""
    assert violation("x", {"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/a", "type": "integer"}}})


def test_a_part_is_checked_once_for_each_value():
    """Otherwise two to the power of thirty checks."""
    twice = {"anyOf": [{"properties": {"a": {"$ref": "#/$defs/n"}}, "required": ["a", "b"]}] * 2}
    value: dict[str, Any] = {}
    for _ in range(30):
        value = {"a": value, "b": 1}
    assert violation(value, {"$ref": "#/$defs/n", "$defs": {"n": twice}})


def test_the_path_in_a_sentence_is_that_of_the_value():
    flags = {"properties": {"a": {"type": ["boolean"]}, "b": {"$ref": "#/$defs/t"}}, "$defs": {"t": {"type": "string"}}}
    assert violation({"a": True, "b": True}, flags).startswith("b is True")
