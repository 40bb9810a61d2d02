"""Patterns mean what they mean to Python's `re`, in linear time."""

from __future__ import annotations

import re
import time

import pytest
from jsonschema import FormatChecker

from runtime.errors import GemmaError
from runtime.schema.guidance import terminal_matcher
from runtime.schema.text_pattern import FORMATS, is_empty, is_pattern, matches, terminal_of_format, terminal_of_pattern

TEXTS = [
    "",
    "a",
    "b",
    "ax",
    "xb",
    "xbx",
    "a/b",
    "a\\",
    "[x",
    "&",
    "-",
    "+",
    ",",
    "]",
    "red pears",
    "é",
    "a\nb",
    "12-3",
    "$",
]


@pytest.mark.parametrize(
    "pattern",
    ["", "^$", "^a|b$", "a|^b|x$", "(a|b)x", "a/b", r"a\\$", r"\$$", r"\$", r"a\\\$", "[[]x",
     "[a&&b]", "[+--]", "[]a]", r"^[^\]]+$",
     "^(red|green) (apple|pear)s?$", r"\d+-?\d", r"^[\d/-]+$", "é{1,2}", "^.$", "a.b", "(?i)A", "^[|]$", r"^\|$"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_pattern_is_found_where_re_finds_it(pattern):
    texts = [*TEXTS, "|", "A"]
    assert {text: matches(pattern, text) for text in texts} == {text: bool(re.search(pattern, text)) for text in texts}


@pytest.mark.parametrize("pattern", ["^(?:(?:a+)+\u0007)?a{60}$", "^(a+)+$", "(x+x+)+y"])
def test_no_pattern_goes_back_and_forth(pattern):
    begun = time.perf_counter()
    matches(pattern, "a" * 60 + "!")
    matches(pattern, "x" * 2000)
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize("pattern", [r"\bword", "(?=a)", r"(a)\1", "^(a|b$)"])
def test_what_looks_around_is_a_pattern_but_has_no_terminal(pattern):
    assert is_pattern(pattern)
    assert matches(pattern, "something else"), "it is advice"
    with pytest.raises(GemmaError, match="is not supported"):
        terminal_of_pattern(pattern)


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", "[", "a" * 5000 + "("])
def test_what_is_no_pattern(pattern):
    assert not is_pattern(pattern)


def test_a_terminal_may_match_nothing():
    assert is_empty("/a/ & /b/")
    assert not is_empty("/a*/ & /b*/")
    with pytest.raises(GemmaError, match="is not supported"):
        is_empty("/(/")


RIGHT = {
    "date": ["2024-02-29", "2000-02-29", "1999-12-31"],
    "time": ["23:59:59Z", "00:00:00.5+01:00"],
    "date-time": ["2024-02-29T12:00:00Z"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000"],
    "ipv4": ["127.0.0.1", "255.255.255.255"],
    "hostname": ["example.com", "a-b.c"],
    "email": ["a.b+c@example.com"],
    "uri": ["https://example.com:80/a/b?c=d#e"],
}
WRONG = {
    "date": ["2023-02-29", "1900-02-29", "2023-13-01", "2023-04-31", "23-1-1", ""],
    "time": ["24:00:00Z", "12:00", "12:00:00"],
    "date-time": ["2023-02-29T12:00:00Z", "2024-02-28"],
    "uuid": ["123e4567"],
    "ipv4": ["256.1.1.1", "1.2.3", "01.2.3.4"],
    "hostname": ["-a", "a..b"],
    "email": ["a", "a@", "@b.c"],
    "uri": ["example.com", "http://a b"],
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name):
    def taken(text: str) -> bool:
        matcher = terminal_matcher(terminal_of_format(name))
        ids = list(text.encode())
        return bool(matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting())

    assert [text for text in RIGHT[name] if not taken(text)] == []
    assert [text for text in WRONG[name] if taken(text)] == []
    if name in ("date", "ipv4"):
        assert all(FormatChecker().conforms(text, name) for text in RIGHT[name])
        assert not any(FormatChecker().conforms(text, name) for text in WRONG[name])


def test_a_format_that_is_not_known_is_named():
    with pytest.raises(GemmaError, match="the format 'iri' is not supported; supported are date"):
        terminal_of_format("iri")
