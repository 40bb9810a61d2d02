"""Gemma's syntax of calls: what is written is read again, and nothing that a model writes does harm."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.calls.syntax import CallError, CallParser
from runtime.calls.text import render_call
from runtime.calls.values import arguments_of, parse_call
from runtime.language.control_tokens import QUOTE
from runtime.language.tokenizer import environment

SETTINGS = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda text: QUOTE not in text)
NAMES = st.text("abcXYZ019_-$.é日 ", min_size=1, max_size=8).map(str.strip).filter(bool)
NUMBERS = st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | WORDS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=10
)
ARGUMENTS = st.dictionaries(NAMES, VALUES, max_size=5)
TEMPLATE = environment().from_string(
    (Path(__file__).parent / "constructs.jinja").read_text()
    + "{% if arguments is defined %}@@@call:f{{ argument(arguments, escape_keys=False) }}{% endif %}"
)


def any_text(draw: random.Random, most: int, letters: str) -> str:
    return "".join(draw.choice(letters) for _ in range(draw.randrange(most)))


def any_value(draw: random.Random, depth: int) -> object:
    kind = draw.randrange(9 if depth else 7)
    if kind == 0:
        return draw.choice([None, True, False, 0, -1, 0.0, "", "null", "1", "true"])
    if kind == 1:
        return draw.randint(-(10 ** draw.randrange(1, 40)), 10 ** draw.randrange(1, 40))
    if kind == 2:
        return draw.uniform(-1, 1) * 10.0 ** draw.randrange(-300, 300)
    if kind < 7:
        return any_text(draw, 12, "abc XYZ09{}[],:\"'\\\n\t<|>é日🙂\0").replace(QUOTE, "")
    if kind == 7:
        return [any_value(draw, depth - 1) for _ in range(draw.randrange(4))]
    return any_arguments(draw, depth - 1)


def any_arguments(draw: random.Random, depth: int) -> dict[str, Any]:
    names = [draw.choice("abcXYZ_é日") + any_text(draw, 6, "abcXYZ019_-$. é日") for _ in range(draw.randrange(5))]
    return {name.strip(): any_value(draw, depth) for name in names}


@settings(SETTINGS, max_examples=200)
@given(st.integers(0, 2**64))
def test_ten_thousand_random_arguments_come_back(seed):
    """200 times 50: hypothesis would take minutes to draw each by itself."""
    draw = random.Random(seed)
    for _ in range(50):
        arguments = any_arguments(draw, 4)
        assert parse_call(render_call("f", arguments)) == ("f", arguments)


@settings(SETTINGS, max_examples=200)
@given(ARGUMENTS)
def test_drawn_arguments_come_back(arguments):
    assert parse_call(render_call("f", arguments)) == ("f", arguments)


@settings(SETTINGS, max_examples=150)
@given(ARGUMENTS)
def test_calls_are_written_as_templates_write_them(arguments):
    assert TEMPLATE.render(messages=[], arguments=arguments).split("@@@")[1] == render_call("f", arguments)


@settings(SETTINGS, max_examples=150)
@given(ARGUMENTS, st.randoms(use_true_random=False))
def test_pieces_of_any_size_give_the_same(arguments, draw):
    parser = CallParser()
    for index, part in enumerate(render_call("f", arguments).split(QUOTE)):
        if index:
            parser.push_quote()
        while part:
            size = draw.randint(1, 3)
            parser.push(part[:size])
            part = part[size:]
    assert (parser.name, arguments_of(parser.tree(), {})) == ("f", arguments)


def test_the_name_is_there_before_the_arguments_are():
    parser = CallParser()
    parser.push("call:get_weather{ci")
    assert parser.name == "get_weather"


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("{}", {}),
        ("{a:1,}", {"a": 1}),
        (" { a : 1 , b : [ 1 , 2 ] } ", {"a": 1, "b": [1, 2]}),
        ("{a:Oslo town,b:truth}", {"a": "Oslo town", "b": "truth"}),
        ('{a:"x, \\"y\\" \\u00e9","b:c":[""]}', {"a": 'x, "y" é', "b:c": [""]}),
        (f"{{{QUOTE}k y{QUOTE} : {{}}}}", {"k y": {}}),
        (f"{{a:{QUOTE}call:f{{,]:{QUOTE}}}", {"a": "call:f{,]:"}),
        ("{a:-0.5,b:+3,c:1E5,d:.5,e:None,f:007}", {"a": -0.5, "b": 3, "c": 1e5, "d": 0.5, "e": None, "f": 7}),
    ],
)
def test_what_is_clear_is_taken(text, arguments):
    assert parse_call(f"call:f{text}") == ("f", arguments)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "call:NAME{ was expected"),
        ("get_weather{}", "is not call:NAME"),
        ("call:two words{}", "is not call:NAME"),
        ("call:f{a:1", "ends where a value was expected"),
        ("call:f{a:[1,2],", "ends where a name was expected"),
        ("call:f{a:[1]", "ends where a comma or a brace was expected"),
        ("call:f{a}", "where a name and a colon"),
        ("call:f{:1}", "where a name and a colon"),
        ("call:f{a:}", "where a value was expected"),
        ("call:f{a:1}}", "behind the end of the call"),
        ("call:f{a:[1}", "'}' closes what it did not open"),
        ("call:f{a:{b:1]", "']' closes what it did not open"),
        ("call:f{a:1{}}", "'{' behind a value"),
        ("call:f{a:1,a:2}", "the argument 'a' is there twice"),
        (f"call:f{{a:{QUOTE}x", "ends where a quote was expected"),
        (f"call:f{{a:x{QUOTE}y{QUOTE}}}", "'y' behind a value"),
        (f"call:f{{a b{QUOTE}}}", "a quote where a name was expected"),
        (f"call:f{{a:{QUOTE}x{QUOTE}y}}", "'y' behind a value"),
        (f"call:f{{{QUOTE}a{QUOTE}b:1}}", "'b' behind a name"),
        ('call:f{a:"\\q"}', "is not a string"),
        ("call:f{a:1e999}", "too large"),
        ("call:f{" + "a:{" * 100, "more than 64"),
        ("call:f{a:" + "[" * 100_000, "more than 64"),
    ],
)
def test_what_is_not_clear_is_named(text, problem):
    with pytest.raises(CallError, match=problem.replace("{", "\\{").replace("}", "\\}").replace("]", "\\]")):
        parse_call(text)


@pytest.mark.slow
def test_a_hundred_thousand_damaged_calls_are_read_or_refused():
    draw = random.Random(0)
    whole = render_call("get_weather", {"city": "Oslo", "days": 2, "tags": ["a", {"b": None}], "ok": True, "x": -1.5})
    noise = ["{", "}", "[", "]", ":", ",", '"', "\\", QUOTE, "call:", "é", "\ud800", "\0", "9" * 30, "e", "-", "\n", ""]
    read = 0
    for _ in range(100_000):
        text = whole
        for _ in range(draw.randint(1, 6)):
            start = draw.randrange(len(text) + 1)
            text = text[:start] + draw.choice(noise) + text[start + draw.randint(0, 5) :]
        try:
            parse_call(text)
            read += 1
        except CallError:
            continue
    assert 1000 < read < 90_000


@pytest.mark.parametrize(
    "text", ["call:f{a:" + "9" * 1_000_000, "call:f{" + "a:1," * 250_000, 'call:f{a:"' + "\\" * 10**6]
)
def test_time_is_linear_in_the_length(text):
    parser, begun = CallParser(), time.perf_counter()
    try:
        for at in range(0, len(text), 1000):
            parser.push(text[at : at + 1000])
    except CallError:
        return
    assert time.perf_counter() - begun < 10
