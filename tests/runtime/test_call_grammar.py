"""Which calls a grammar takes: only declared names, arguments by their schemas."""

from __future__ import annotations

from typing import Any

import llguidance
import pytest

from runtime.bundle.bundle import Bundle
from runtime.calls.grammar import call_grammar
from runtime.calls.tool_schema import declarations
from runtime.language.control_tokens import ControlTokens
from runtime.language.tokenizer import Tokenizer

Q = '<|"|>'
PROPERTIES = {
    "city": {"type": "string", "maxLength": 6},
    "Days": {"type": "integer", "minimum": 1, "maximum": 14},
    "unit": {"type": "string", "enum": ["c", 'f"/']},
    "at": {"type": "array", "items": {"type": "number"}, "maxItems": 2},
    "word": {"type": "string", "pattern": "^a+$"},
    "part": {"type": "string", "pattern": "b"},
    "opt": {"type": "boolean", "nullable": True},
    "box": {"type": "object", "additionalProperties": {"type": "null"}},
    "any": {},
    "none": {"type": "array", "maxItems": 0},
}
TOOLS: list[dict[str, Any]] = [
    {"name": "weather", "parameters": {"type": "object", "properties": PROPERTIES, "required": ["city"]}},
    {"name": "now"},
    {"name": "pair", "parameters": {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"]}},
]


@pytest.fixture(scope="module")
def taken(bundle):
    """Whether a grammar takes a call from its first token to its last."""
    opened = Bundle.open(bundle("sample", "int4-datafree"))
    tokenizer = Tokenizer.of(opened)
    control = ControlTokens.of(tokenizer.pieces.token_to_id)
    tokens = llguidance.LLTokenizer(str(opened.path("tokenizer.json")), opened.manifest.model.vocab_size, [1])
    grammar = call_grammar(declarations(TOOLS), control.call_end, control.quote)

    def check(call: str) -> bool:
        matcher = llguidance.LLMatcher(tokens, grammar, log_level=0)
        assert not matcher.is_error(), matcher.get_error()
        ids = tokenizer.encode(f"{call}<tool_call|>", bos=False)
        return matcher.validate_tokens(ids) == len(ids)

    return check


@pytest.mark.parametrize(
    "call",
    [
        "call:now{}",
        f"call:weather{{city:{Q}Oslo{Q}}}",
        f"call:weather{{city:{Q}{Q}}}",
        f"call:weather{{at:[1,-2.5e3],city:{Q}é{Q},Days:14,unit:{Q}c{Q}}}",
        f'call:weather{{city:{Q}x{Q},unit:{Q}f"/{Q},word:{Q}aaa{Q}}}',
        f"call:weather{{box:{{}},city:{Q}x{Q},opt:null,part:{Q}abc{Q}}}",
        f"call:weather{{box:{{k:null,l:null}},city:{Q}x{Q},none:[]}}",
        f"call:weather{{any:[{{k:[true,{Q}x{Q}]}},3,null],city:{Q}x{Q}}}",
        f"call:pair{{a:1,b:{Q}{Q}}}",
    ],
)
def test_takes(taken, call):
    assert taken(call)


@pytest.mark.parametrize(
    "call",
    [
        "call:later{}",
        "call:weather{}",
        "call:now{x:1}",
        f"call:weather{{city:{Q}Trondheim{Q}}}",
        f"call:weather{{city:{Q}x{Q},Days:15}}",
        f"call:weather{{city:{Q}x{Q},unit:{Q}k{Q}}}",
        f"call:weather{{at:[1,2,3],city:{Q}x{Q}}}",
        f"call:weather{{city:{Q}x{Q},word:{Q}aab{Q}}}",
        f"call:weather{{city:{Q}x{Q},part:{Q}aac{Q}}}",
        f"call:weather{{box:{{k:1}},city:{Q}x{Q}}}",
        f"call:weather{{city:{Q}x{Q},none:[1]}}",
        f"call:weather{{Days:3,city:{Q}x{Q}}}",
        "call:weather{city:Oslo}",
        "call:pair{a:1}",
        "call:pair{b:1}",
        "call:pair{a:1b:2}",
    ],
)
def test_does_not_take(taken, call):
    assert not taken(call)
