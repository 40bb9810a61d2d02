"""Tools from schemas and functions, and calls against them."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest

from runtime.calls.tool_schema import call_problem, declarations, for_template
from runtime.errors import GemmaError


def weather(
    city: str,
    days: int = 3,
    unit: Literal["c", "f"] = "c",
    tags: list[str] | None = None,
    box: dict[str, float] | None = None,
    near: Annotated[bool, "Also around it"] = False,
) -> str:
    """Get the weather.

    Of one city.

    Args:
        city: Its name,
            in English
        days (int): How many days

    Returns:
        A sentence.
    """
    return city


def untyped(x):
    return x


def starred(*x: int) -> None:
    return None


def strange(x: set[int]) -> None:
    return None


def test_a_function_declares_itself():
    assert declarations([weather]) == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "Get the weather.\n\nOf one city.",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "city": {"type": "string", "description": "Its name, in English"},
                        "days": {"type": "integer", "description": "How many days"},
                        "unit": {"type": "string", "enum": ["c", "f"]},
                        "tags": {"type": "array", "items": {"type": "string"}, "nullable": True},
                        "box": {"type": "object", "additionalProperties": {"type": "number"}, "nullable": True},
                        "near": {"type": "boolean"},
                    },
                    "required": ["city"],
                },
            },
        }
    ]


def test_a_mapping_may_have_the_wrapping_or_not():
    bare = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
    assert declarations([bare]) == declarations([{"type": "function", "function": bare}])
    assert declarations([{"name": "f"}])[0]["function"]["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ([weather, weather], "two tools are called 'weather'"),
        ("lookup", "tools must be a list, not 'lookup'"),
        (5, "tools must be a list, not 5"),
        ({"name": "f"}, "tools must be a list"),
        (["lookup"], "'lookup' is not a tool"),
        ([5], "5 is not a tool"),
        ([None], "None is not a tool"),
        ([{"type": "function", "function": "f"}], "is not a tool"),
        ([{"name": 5}], "is not a tool"),
        ([{"name": "f", "description": 5}], "the description of f must be a string, not 5"),
        ([{"name": "f", "description": "\ud800"}], "tool 0: '.ud800' is half of a character"),
        ([{"name": "f", "parameters": {"description": "\udfff"}}], "tool 0: '.udfff' is half of a character"),
        ([weather, {"name": "f", "parameters": {"properties": {"\udc00": {}}}}], "tool 1: .* half of a character"),
        ([{"description": "nameless"}], "is not a tool"),
        ([{"name": "f{"}], "is not a tool"),
        ([{"name": "f", "parameters": {"type": "string"}}], "must be the schema of an object"),
        ([untyped], "the argument x of untyped has no type"),
        ([starred], "cannot take the argument \\*x"),
        ([strange], "strange.x: <class 'set'> has no JSON schema"),
        ([lambda: 1], "has no name"),
    ],
)
def test_refused(tools, message):
    with pytest.raises(GemmaError, match=message):
        declarations(tools)


def test_templates_see_plain_keywords():
    properties = {
        "a": {"type": ["string", "null"]},
        "b": {"anyOf": [{"type": "integer"}, {"type": "null"}], "description": "d"},
        "c": {"$ref": "#/$defs/row"},
        "d": {"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "integer"}]}},
    }
    rows = {"$defs": {"row": {"type": "object", "properties": {"a": {"type": ["null", "number"]}}}}}
    [tool] = declarations([{"name": "f", "parameters": {"type": "object", "properties": properties, **rows}}])
    assert for_template(tool)["function"]["parameters"]["properties"] == {
        "a": {"type": "string", "nullable": True},
        "b": {"type": "integer", "description": "d", "nullable": True},
        "c": {"type": "object", "properties": {"a": {"type": "number", "nullable": True}}},
        "d": {"type": "array", "items": {"type": "string"}},
    }


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("weather", {"city": "Oslo", "tags": None}, ""),
        ("wether", {}, "there is no tool 'wether'; there are weather"),
        ("weather", {}, "city is missing"),
        ("weather", {"city": 1}, "city is 1, not of the type string"),
        ("weather", {"city": "Oslo", "unit": "k"}, "unit is 'k', not one of 'c', 'f'"),
        ("weather", {"city": "Oslo", "place": "x"}, "place is not known; known are city, days, unit, tags, box, near"),
    ],
)
def test_a_call_is_held_against_its_declaration(name, arguments, problem):
    assert call_problem(declarations([weather]), name, arguments) == problem
