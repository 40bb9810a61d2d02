"""Grammar, reader and validator know one syntax: what a grammar allows is read, and fits the schema it was made of.

The judge is jsonschema, whose numbers are made decimal: as floats it finds that 0.3 is no multiple of 0.1.
`GEMMA_EDGE_CALLS=10000 pytest tests/runtime/test_call_round_trip.py -m slow` draws as many schemas.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from decimal import Decimal

import jsonschema
import llguidance
import pytest

from runtime.bundle.bundle import Bundle
from runtime.calls.grammar import call_grammar
from runtime.calls.syntax import CallParser
from runtime.calls.tool_schema import declarations, read_call
from runtime.errors import GemmaError
from runtime.language.control_tokens import ControlTokens
from runtime.language.tokenizer import Tokenizer
from tests.drawn_schemas import Drawn, walk

SCHEMAS = int(os.environ.get("GEMMA_EDGE_CALLS", "1000"))
PARTS = 4


@pytest.fixture(scope="module")
def sample(bundle):
    opened = Bundle.open(bundle("sample", "int4-datafree"))
    tokenizer = Tokenizer.of(opened)
    size = opened.manifest.model.vocab_size
    tokens = llguidance.LLTokenizer(str(opened.path("tokenizer.json")), size, [1])
    return tokenizer, ControlTokens.of(tokenizer.pieces.token_to_id), tokens, size


def decimal(value: object) -> object:
    return json.loads(json.dumps(value), parse_float=lambda text: whole(Decimal(text)))


def whole(number: Decimal) -> Decimal | int:
    return int(number) if number == number.to_integral_value() else number


def read(ids, tokenizer, control):
    """A call's tokens through the parser, as an answer's reader feeds it."""
    parser, stream = CallParser(), tokenizer.stream()
    for token in ids:
        if token == control.quote:
            stream = tokenizer.stream()
            parser.push_quote()
        else:
            parser.push(stream.push(token))
    return parser


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_what_a_grammar_allows_is_read_and_fits_its_schema(sample, part):
    tokenizer, control, tokens, size = sample
    closing = [control.quote, control.call_end, *(tokenizer.pieces.token_to_id(one) for one in "}],:")]
    ends: Counter[str] = Counter()
    for seed in range(part, SCHEMAS, PARTS):
        tool = Drawn(seed).tool()
        declared = declarations([tool])
        try:
            grammar = call_grammar(declared, control.call_end, control.quote)
        except GemmaError as error:
            ends[error.message.split(": ")[-1][:40]] += 1
            continue
        matcher = llguidance.LLMatcher(tokens, grammar, log_level=0)
        if matcher.is_error():
            ends[matcher.get_error().split("\n")[0][:60]] += 1
            continue
        ids = walk(matcher, size, closing, random.Random(seed))
        if ids is None:
            ends["length"] += 1
            continue
        call = read(ids[:-1], tokenizer, control)
        arguments, problem = read_call(declared, call)
        where = (seed, json.dumps(tool), tokenizer.pieces.decode(ids, skip_special_tokens=False), arguments)
        assert problem == "", (problem, *where)
        judge = jsonschema.Draft202012Validator(decimal(tool["parameters"]))
        assert not [error.message for error in judge.iter_errors(decimal(arguments))], where
        ends["read"] += 1
    print(dict(ends))
    assert ends["read"] > 0.6 * SCHEMAS / PARTS
