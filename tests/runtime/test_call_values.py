"""Calls as models write them, and what their words mean to a tool's schema."""

from __future__ import annotations

import contextlib
import random
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.calls.syntax import CallError, CallParser
from runtime.calls.text import render_call
from runtime.calls.tool_schema import declarations, read_call
from runtime.calls.values import parse_call, scalar
from runtime.language.control_tokens import QUOTE

Q = QUOTE
SETTINGS = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda text: QUOTE not in text)
NUMBERS = st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)


@settings(SETTINGS, max_examples=200)
@given(st.dictionaries(TEXTS, VALUES, max_size=5))
def test_any_arguments_come_back(arguments):
    """Names of all kinds: those that can not stand bare are written between quote tokens."""
    assert parse_call(render_call("f", arguments)) == ("f", arguments)


@pytest.mark.parametrize(
    ("call", "name", "arguments"),
    [
        ("call:r{refs:['ds_1']}", "r", {"refs": ["ds_1"]}),
        ("call:r{'a':'b', 'c' : ['x, y','it\\'s']}", "r", {"a": "b", "c": ["x, y", "it's"]}),
        ("call:f{a:it's,b:'tis}", "f", {"a": "it's", "b": "'tis"}),
        (f"call:web_search{{query:weather in Tokyo{Q}}}", "web_search", {"query": "weather in Tokyo"}),
        (f"call:web_search{{query:Paris, France{Q},limit:5}}", "web_search", {"query": "Paris, France", "limit": 5}),
        (f"call:f{{n:5,q:a:b, c{{d}} [e]{Q},l:[1]}}", "f", {"n": 5, "q": "a:b, c{d} [e]", "l": [1]}),
        (f"call:f{{q:12, Main Street{Q}}}", "f", {"q": "12, Main Street"}),
        (f"call:f{{q:{{x}} y{Q},r:[draft] z{Q}}}", "f", {"q": "{x} y", "r": "[draft] z"}),
        (f"call:f{{refs:[ds_1{Q},{Q}b{Q}]}}", "f", {"refs": ["ds_1", "b"]}),
        (f"call:f{{city:Oslo,query:weather in Tokyo{Q}}}", "f", {"city": "Oslo", "query": "weather in Tokyo"}),
        (f"call:f{{o:{{lang:en{Q}}}}}", "f", {"o": {"lang": "en"}}),
        (f'call:f{{q:"Tokyo{Q}}}', "f", {"q": "Tokyo"}),
        (f"call:f{{url:https://a.b/c?d=e{Q}}}", "f", {"url": "https://a.b/c?d=e"}),
        (f"call:move{{command:{Q}look{Q}angle:90}}", "move", {"command": "look", "angle": 90}),
        (f"call:f{{l:[{Q}a{Q}{Q}b{Q}],m:[1]n:2}}", "f", {"l": ["a", "b"], "m": [1], "n": 2}),
        ("call:google:mcp:make_pdf{a:1}", "google:mcp:make_pdf", {"a": 1}),
        (f"call:f{{{Q}og:title{Q}:{Q}x{Q},{Q}{Q}:1}}", "f", {"og:title": "x", "": 1}),
    ],
)
def test_what_models_write_is_read(call, name, arguments):
    assert parse_call(call) == (name, arguments)


def test_a_name_that_is_there_twice_is_a_mistake():
    with pytest.raises(CallError, match="the argument 'a' is there twice"):
        parse_call("call:f{a:1,a:2}")


def read(text: str, properties: dict[str, Any], **keywords: object) -> tuple[dict[str, Any], str]:
    parser = CallParser()
    for index, piece in enumerate(text.split(QUOTE)):
        if index:
            parser.push_quote()
        parser.push(piece)
    tool = {"name": "f", "parameters": {"type": "object", "properties": properties, **keywords}}
    return read_call(declarations([tool]), parser)


STRING, INTEGER = {"type": "string"}, {"type": "integer"}


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("01234", STRING, "01234"),
        ("5", STRING, "5"),
        ("1e999", STRING, "1e999"),
        ("true", STRING, "true"),
        ("01234", INTEGER, 1234),
        ("01234", {}, 1234),
        ("007", {"enum": ["007", "008"]}, "007"),
        ("7", {"type": ["string", "integer"]}, 7),
        ("7", {"anyOf": [{}, STRING], "minLength": 2}, 7),
        ("None", {"enum": ["None", "x"]}, "None"),
        ("5", {"type": "number"}, 5),
        (f"{Q}5{Q}", INTEGER, 5),
        (f"{Q}-2.5{Q}", {"type": "number"}, -2.5),
        (f"{Q}true{Q}", {"type": "boolean"}, True),
        (f"{Q}5{Q}", {"type": ["string", "integer"]}, "5"),
        (f"{Q}5{Q}", {}, "5"),
        ("[01,02]", {"type": "array", "items": STRING}, ["01", "02"]),
        ("[01,02]", {"type": "array", "prefixItems": [INTEGER, STRING]}, [1, "02"]),
        ("{b:01}", {"$ref": "#/$defs/x"}, {"b": "01"}),
        ("{c:01}", {"type": "object", "additionalProperties": STRING}, {"c": "01"}),
        ("{c:1,c:2}", {"type": "object", "additionalProperties": INTEGER}, {"c": 2}),
        ("{c:1,c:2}", {"anyOf": [{"properties": {"c": INTEGER}}, {}]}, {"c": 2}),
        ("{c:1,c:2}", {"$ref": "#/$defs/any"}, {"c": 2}),
    ],
)
def test_words_are_read_as_the_schema_has_them(text, schema, value):
    found = {"x": {"type": "object", "properties": {"b": {"allOf": [STRING]}}}, "any": True}
    arguments, problem = read(f"call:f{{x:{text}}}", {"x": schema}, **{"$defs": found})
    assert (arguments, problem) == ({"x": value}, "")
    assert type(arguments["x"]) is type(value)


@pytest.mark.parametrize(
    ("text", "schema", "problem"),
    [
        ("null", STRING, "x is None, not of the type string"),
        (f"{Q}abc{Q}", INTEGER, "x is 'abc', not of the type integer"),
        (f"{Q}null{Q}", INTEGER, "x is 'null', not of the type integer"),
        ("1.5", INTEGER, "x is 1.5, not of the type integer"),
    ],
)
def test_what_is_not_clear_stays_and_is_named(text, schema, problem):
    assert read(f"call:f{{x:{text}}}", {"x": schema})[1] == problem


def test_declared_names_tell_where_a_string_ends_that_has_no_quote():
    call = f"call:f{{q:one, y:two,x:three{Q}}}"
    assert read(call, {"q": STRING, "y": STRING, "x": STRING})[0] == {"q": "one", "y": "two", "x": "three"}
    assert read(call, {"q": STRING})[0] == {"q": "one, y:two,x:three"}


def test_a_declared_name_that_is_there_twice_is_a_mistake():
    with pytest.raises(CallError, match="'x' is there twice"):
        read("call:f{x:1,x:2}", {"x": INTEGER})


@pytest.mark.parametrize("text", ["1" * 300_000 + "x", "1" * 300_000 + ".", "." * 300_000, "-" * 300_000])
def test_a_word_is_read_in_linear_time(text):
    begun = time.perf_counter()
    with contextlib.suppress(CallError):  # too large a number
        assert scalar(text) == text
    assert time.perf_counter() - begun < 2


@pytest.mark.parametrize("piece", ["'a,", "'", "[a", "{", "a:{", "x{", f"a{Q}", ":", ",a:1", "' ", '"', "\\"])
def test_damage_that_repeats_is_read_in_linear_time(piece):
    begun = time.perf_counter()
    for head in ("call:f{a:", "call:f{", ""):
        parser = CallParser()
        draw = random.Random(0)
        for index, part in enumerate((head + piece * 50_000).split(QUOTE)):
            if index:
                parser.push_quote()
            while part:
                size = draw.randint(1, 3000)
                parser.push(part[:size])
                part = part[size:]
        try:
            parser.tree()
        except CallError:
            continue
    assert time.perf_counter() - begun < 10
