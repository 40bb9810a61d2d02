"""Every keyword of draft 2020-12 is held by both grammars, or refused by its name: never loosened without a word."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import llguidance
import pytest

from runtime.calls.grammar import call_grammar
from runtime.calls.text import value_pieces
from runtime.calls.tool_schema import declarations
from runtime.errors import GemmaError
from runtime.schema.guidance import bytes_as_tokens
from runtime.schema.json_form import json_grammar
from runtime.schema.json_schema import violation

QUOTE, CALL_END = 256, 257  # tokens of llguidance's tokenizer of bytes that no text has
C = {"$defs": {"C": {"type": "string", "enum": ["red", "green"]}}}
DATED = {"type": "string", "format": "date"}
KIND = {"type": "object", "properties": {"k": {"const": "x"}, "n": {"type": "integer"}}, "required": ["k"]}
OTHER = {"type": "object", "properties": {"k": {"const": "y"}}, "required": ["k"]}
AB = {"properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}

# The schema; values that fit, and values that do not; the keyword, where calls refuse it.
TABLE: list[tuple[dict[str, Any], list[Any], list[Any], str]] = [
    ({"multipleOf": 0.1, "type": "number"}, [0.3, 2], [0.35], ""),
    ({"multipleOf": 0.3, "type": "number"}, [0.9, 3], [1, 0.1], ""),
    ({"type": "integer", "allOf": [{"multipleOf": 2}, {"multipleOf": 3}]}, [6, 0], [2, 3], ""),
    ({"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}, [4], [3, 5], ""),
    ({"type": "number", "exclusiveMinimum": 0.1, "maximum": 0.3}, [0.2, 0.3], [0.1, 0.31], ""),
    ({"type": "number", "exclusiveMinimum": 0}, [0.5, 0.001], [0, 0.0], ""),
    ({"type": "number", "exclusiveMaximum": 0}, [-0.5], [0, -0.0], ""),
    ({"type": "number", "minimum": 1000000.0000000001}, [1000001], [1000000], ""),
    ({"type": "string", "pattern": "^a|b$", "maxLength": 2}, ["a", "xb", "ax"], ["x", "axx", "abc"], ""),
    ({"type": "string", "pattern": "a", "minLength": 3}, ["xxa"], ["a", "xxx"], ""),
    (DATED, ["2024-02-29"], ["2023-02-29x", "today"], ""),
    ({"type": "string", "format": "iri"}, [], [], "format"),
    ({"type": "array", "items": {"enum": ["a", "b", 1]}, "uniqueItems": True},
     [[], ["b", "a"], [1]], [["a", "a"]], ""),
    ({"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True, "minItems": 2}, [["b", "a"]], [["a"]], ""),
    ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, [], [], "uniqueItems"),
    ({"type": "array", "contains": {"const": 1}}, [], [], "contains"),
    ({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": False},
     [[], [1], [1, 2]], [[2], [1, 2, 3]], ""),
    ({"type": "array", "prefixItems": [{"const": 1}], "minItems": 2, "items": {"const": 3}},
     [[1, 3]], [[1], [1, 1]], ""),
    ({"type": "array", "unevaluatedItems": False}, [], [], "unevaluatedItems"),
    ({"type": "object", **AB, "minProperties": 1, "maxProperties": 1}, [{"a": 1}, {"b": 1}],
     [{}, {"a": 1, "b": 2}], ""),
    ({"type": "object", **AB, "minProperties": 2}, [{"a": 1, "b": 1}], [{"a": 1}, {"b": 1}], ""),
    ({"type": "object", "minProperties": 2}, [], [], "minProperties"),
    ({"type": "object", "maxProperties": 1}, [{}, {"x": 1}], [{"x": 1, "y": 1}], ""),
    ({"type": "object", "propertyNames": {"pattern": "^[ab]$"}}, [{"a": 1}], [{"c": 1}], ""),
    ({"type": "object", "propertyNames": {"not": {"const": "a"}}}, [], [], "propertyNames"),
    ({"type": "object", "patternProperties": {"^n": {"type": "null"}}, "additionalProperties": {"type": "integer"}},
     [{"na": None}, {"a": 1}], [{"na": 1}, {"a": None}], ""),
    ({"type": "object", **AB, "additionalProperties": {"type": "null"}},
     [{"a": 1, "x": None}], [{"a": None}, {"x": 1}], ""),
    ({"type": "object", **AB, "required": ["b"]}, [{"b": 1}], [{"a": 1}, {}], ""),
    ({"type": "object", **AB, "dependentRequired": {"a": ["b"]}}, [], [], "dependentRequired"),
    ({"type": "object", **AB, "dependentSchemas": {"a": False}}, [], [], "dependentSchemas"),
    ({"type": "object", **AB, "dependencies": {"a": ["b"]}}, [], [], "dependencies"),
    ({"type": "object", **AB, "unevaluatedProperties": False}, [], [], "unevaluatedProperties"),
    ({"type": "integer", "not": {"const": 1}}, [], [], "not"),
    ({"enum": [1, 2], "not": {"const": 1}}, [2], [1], ""),
    ({"type": "object", "if": {"required": ["a"]}, "then": {"required": ["b"]}}, [], [], "then"),
    ({"enum": ["a", "abc", 5], "minLength": 2, "type": "string"}, ["abc"], ["a", 5], ""),
    ({"type": "boolean", "const": True}, [True], [False, 1], ""),
    ({"oneOf": [KIND, OTHER]}, [{"k": "x", "n": 1}, {"k": "y"}], [{"k": "z"}, {"n": 1}], ""),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, [], [], "oneOf"),
    ({"oneOf": [{"type": "integer", "maximum": 1}, {"type": "integer", "minimum": 3}]}, [1, 3], [2], ""),
    ({"anyOf": [{"type": "string"}, {"type": "null"}], "maxLength": 1}, ["a", None], ["ab", 1], ""),
    ({"allOf": [{"$ref": "#/$defs/C"}], "default": "red", **C}, ["red"], ["blue"], ""),
    ({"$ref": "#/$defs/C", "description": "d", "maxLength": 3, **C}, ["red"], ["green", "blue"], ""),
    ({"allOf": [{"type": "object", **AB}, {"required": ["a"], "properties": {"c": {"const": 1}}}]},
     [{"a": 1, "c": 1}], [{"c": 1}, {"a": 1, "c": 2}], ""),
    ({"type": "string", "nullable": True, "enum": ["a"]}, ["a", None], ["b"], ""),
    ({"const": 2**53 + 1}, [2**53 + 1], [2**53], ""),
    ({"type": "integer", "minimum": 2**53 + 1}, [], [], "minimum"),
]  # fmt: skip
IDS = [json.dumps(case[0])[:60] for case in TABLE]


def rooted(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as that of the argument x, its definitions at the root."""
    inner = {name: one for name, one in schema.items() if name != "$defs"}
    defs = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    return {"type": "object", "properties": {"x": inner}, "required": ["x"], **defs}


def takes(grammar: str, ids: list[int]) -> bool:
    matcher = llguidance.LLMatcher(bytes_as_tokens(), grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


def call_ids(value: object) -> list[int]:
    pieces = ["call:f", *value_pieces({"x": value})]
    return [*(id for piece in pieces for id in ([QUOTE] if piece is None else piece.encode())), CALL_END]


@pytest.mark.parametrize(("schema", "right", "wrong", "refused"), TABLE, ids=IDS)
def test_calls_hold_it_or_name_it(schema, right, wrong, refused):
    declared = declarations([{"name": "f", "parameters": rooted(schema)}])
    if refused:
        with pytest.raises(GemmaError, match=f"calls of f cannot be held to its schema: .*{refused}"):
            call_grammar(declared, CALL_END, QUOTE)
        call_grammar(declared, CALL_END, QUOTE, {"f"})
        return
    grammar = call_grammar(declared, CALL_END, QUOTE)
    assert [value for value in right if not takes(grammar, call_ids(value))] == []
    assert [value for value in wrong if takes(grammar, call_ids(value))] == []


@pytest.mark.parametrize(("schema", "right", "wrong", "refused"), TABLE, ids=IDS)
def test_answers_in_json_hold_it_or_name_it(schema, right, wrong, refused):
    """llguidance holds more here and there; what it takes has to fit."""
    try:
        grammar = json_grammar(rooted(schema))
        matcher = llguidance.LLMatcher(bytes_as_tokens(), grammar, log_level=0)
        assert not matcher.is_error(), matcher.get_error()
    except (GemmaError, AssertionError):
        return
    assert not matcher.get_grammar_warnings()
    assert not [value for value in wrong if takes(grammar, list(json.dumps({"x": value}).encode()))]


@pytest.mark.parametrize(("schema", "right", "wrong", "refused"), TABLE, ids=IDS)
def test_the_validator_judges_as_jsonschema_does(schema, right, wrong, refused):
    judge = jsonschema.Draft202012Validator(schema)
    for value in [*right, *wrong, None, True, 0, "x", [], [1, 1], {}, {"a": 1}, {"a": 1, "b": 2}, {"zz": 1}]:
        if "nullable" in schema or "multipleOf" in schema or "format" in schema:
            continue  # not of draft 2020-12; divided as floats; not checked there
        assert (violation(value, schema) == "") == judge.is_valid(value), value


@pytest.mark.parametrize("value", [value for _, right, _, _ in TABLE for value in right])
def test_values_that_fit_are_no_violation(value):
    schemas = [schema for schema, right, _, _ in TABLE if value in right]
    assert any(violation(value, schema) == "" for schema in schemas)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"x-guidance": {"lenient": True}, "type": "array", "uniqueItems": True}, ""),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "dependentRequired": {"a": ["b"]}}, ""),
        ({"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#"}}}, "properties/a/\\$schema"),
        ({"additionalProperties": {"type": "integer"}, "minProperties": 2}, "minProperties is not supported"),
        ({"properties": {"a": {"const": 2**53 + 1}}}, "properties/a/const is not supported"),
        ({"enum": [0.30000000000000004]}, "enum is not supported"),
        ({"minLength": "x"}, "minLength: 'x'"),
    ],
)
def test_what_would_loosen_an_answer_is_refused(schema, message):
    if message:
        with pytest.raises(GemmaError, match=message):
            json_grammar(schema)
        return
    matcher = llguidance.LLMatcher(bytes_as_tokens(), json_grammar(schema), log_level=0)
    assert "Unimplemented keys" in matcher.get_error()


@pytest.mark.parametrize(
    "value", [{"x": 1}, {"og:title": "a", "a,b": 1, "x}y": 2, "[0]": 3, '"q"': 4, "": 5, "'s'": 6}]
)
def test_names_that_can_not_stand_bare_are_quoted(value):
    schema = {
        "type": "object",
        "properties": {name: {"const": one} for name, one in value.items()},
        "required": [*value],
    }
    declared = declarations([{"name": "f", "parameters": rooted(schema)}])
    assert takes(call_grammar(declared, CALL_END, QUOTE), call_ids(value))


def test_names_of_properties_are_no_keywords():
    names = ["pattern", "allOf", "$ref", "type", "not", "enum", "properties", "required", "if", "format"]
    parameters = {"type": "object", "properties": {name: {"type": "integer"} for name in names}}
    declared = declarations([{"name": "f", "parameters": rooted(parameters)}])
    grammar = call_grammar(declared, CALL_END, QUOTE)
    assert takes(grammar, call_ids(dict.fromkeys(names, 1)))
    assert not takes(grammar, call_ids({"pattern": "a"}))
