"""Answers of a given form, on the sample: every finished one is valid."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest

from runtime.errors import GemmaError
from runtime.language.answer_forms import ResponseFormat
from runtime.language.events import End, Text
from runtime.schema.json_schema import violation
from runtime.session.model import Model
from runtime.session.options import Options
from runtime.session.session import Session
from runtime.session.structured import Choice, JsonSchema, Regex

ASKED = [{"role": "user", "content": "What is the capital of Norway?"}]
WORD = {"type": "string", "maxLength": 5}
LEAVES: list[dict[str, Any]] = [
    {"type": "integer", "minimum": -5, "maximum": 500},
    {"type": "boolean"},
    {"type": "null"},
    WORD,
    {"type": "string", "pattern": "^[a-z]{2,4}[0-9]$"},
    {"type": "string", "pattern": "^(red|green) (apple|pear)s?$"},
    {"type": "string", "minLength": 2, "maxLength": 4},
    {"enum": ["red", "green", "é日", 7, None, False]},
    {"const": "fixed"},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "string", "enum": ["a b", 'quote"d', "back\\slash", "line\nbreak"]},
    {"type": ["integer", "null"], "minimum": 0, "maximum": 9},
    {"anyOf": [{"type": "boolean"}, {"type": "string", "maxLength": 2}]},
    {"oneOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"const": "x"}]},
]


def closed(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    names = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


def schemas() -> list[dict[str, Any]]:
    """Over 200: each leaf alone, in arrays, in objects, nested, in unions and behind references."""
    made = [*LEAVES]
    made += [{"type": "array", "items": leaf, "minItems": 1, "maxItems": 3} for leaf in LEAVES]
    made += [closed({"value": leaf}) for leaf in LEAVES]
    made += [closed({"a": leaf, "b": WORD}, ["a"]) for leaf in LEAVES]
    made += [closed({"in": closed({"deep": closed({"x": leaf})})}) for leaf in LEAVES]
    made += [closed({"rows": {"type": "array", "items": closed({"k": leaf}), "maxItems": 2}}) for leaf in LEAVES]
    made += [{"anyOf": [closed({"a": leaf}), {"type": "null"}]} for leaf in LEAVES]
    made += [{**closed({"r": {"$ref": "#/$defs/leaf"}}), "$defs": {"leaf": leaf}} for leaf in LEAVES]
    made += [closed({"first": a, "second": b}) for a, b in itertools.combinations(LEAVES, 2)]
    return made


@pytest.fixture(scope="module")
def session(bundle):
    return Model.open(bundle("sample", "int4-datafree"), threads=1).session()


def answer(session: Session, form: ResponseFormat, seed: int = 0, limit: int = 200, **options: Any) -> tuple[str, End]:
    drawn = Options(
        temperature=1.0, top_k=0, top_p=1.0, seed=seed, max_new_tokens=limit, response_format=form, **options
    )
    *events, end = session.chat(ASKED, drawn)
    assert isinstance(end, End)
    return "".join(event.text for event in events if isinstance(event, Text)), end


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_every_finished_answer_is_valid(session, part):
    assert len(schemas()) >= 200
    finished, chosen = 0, schemas()[part::4]
    for seed, schema in enumerate(chosen):
        said, end = answer(session, JsonSchema(schema), seed)
        if end.stop == "stop":
            finished += 1
            assert violation(json.loads(said), schema) == "", (schema, said)
        else:
            assert end.stop == "length"
    assert finished >= 0.9 * len(chosen)


@pytest.mark.parametrize("pattern", ["[A-Z][a-z]{2,8}, [0-9]{3}", "(yes|no)!?", "é{2,3}日"])
def test_a_pattern_matches_as_a_whole(session, pattern):
    said, end = answer(session, Regex(pattern))
    assert end.stop == "stop"
    assert re.fullmatch(pattern, said)


@pytest.mark.parametrize("choices", [["Oslo", "Lima"], ["a", "ab", "abc"], ['say "x"', "back\\slash", "é\n日"]])
def test_one_of_the_choices(session, choices):
    assert {answer(session, Choice(choices), seed)[0] for seed in range(4)} <= set(choices)


def test_an_answer_that_is_cut_says_so(session):
    said, end = answer(session, JsonSchema(closed({"a": {"type": "array", "items": WORD, "minItems": 50}})), limit=10)
    assert end.stop == "length"
    with pytest.raises(ValueError, match="Expecting|Unterminated|delimiter"):
        json.loads(said)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (JsonSchema({"type": "nonsense"}), "the schema: type: 'nonsense'"),
        (JsonSchema({"enum": {1, 2}}), "the schema is not JSON"),
        (JsonSchema({"uniqueItems": True}), "the response format: .*uniqueItems"),
        (Regex("(unclosed"), r"the pattern .\(unclosed.: unclosed group"),
    ],
)
def test_a_form_that_has_no_grammar_is_refused(session, form, message):
    with pytest.raises(GemmaError, match=message):
        session.chat(ASKED, Options(response_format=form))


def test_a_bundle_without_ends_is_refused(bundle):
    session = Model.open(bundle("sample", "int4-datafree"), threads=1).session()
    session.manifest.generation.stop.clear()
    with pytest.raises(GemmaError, match="tokenizer.json: llguidance cannot read it"):
        session.chat(ASKED, Options(response_format=Choice(["a"])))


def test_after_a_form_the_next_answer_is_free(session):
    answer(session, Choice(["Lima"]))
    *events, _ = session.chat(ASKED, Options(temperature=0, max_new_tokens=20))
    assert "".join(event.text for event in events) == "The capital of Norway is Oslo."
