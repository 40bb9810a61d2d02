"""Which tools are held to their schemas, and which may be called freely and are checked afterwards."""

from __future__ import annotations

import pytest

from runtime.errors import GemmaError
from runtime.language.events import ToolCall
from runtime.session.model import Model
from runtime.session.options import Options

ASKED = [{"role": "user", "content": "What is the capital of Norway?"}]
STRINGS = {"type": "object", "properties": {"country": {"type": "string"}, "field": {"type": "string"}}}
LOOKUP = {
    "name": "lookup",
    "description": "Look up a fact",
    "parameters": {**STRINGS, "required": ["country", "field"]},
}
NOT = {"type": "object", "properties": {"country": {"not": {"const": "Norway"}}, "field": {}}, "required": ["country"]}
UNHELD = {"name": "lookup", "description": "Look up a fact", "parameters": NOT}
NUMBER = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}, "required": ["n"]}
GREP = {"name": "grep", "parameters": {"type": "object", "properties": {"pattern": {"type": "string"}}}}
FROZEN = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(?:(?:a+)+\u0007)?a{60}$"}}}


@pytest.fixture(scope="module")
def session(bundle):
    return Model.open(bundle("sample", "int4-datafree"), threads=1).session()


def calls(session, tools, seed=None, **options):
    drawn = {"temperature": 0} if seed is None else {"temperature": 1.5, "top_k": 0, "top_p": 1.0, "seed": seed}
    events = session.chat(ASKED, Options(max_new_tokens=150, tools=tools, **drawn, **options))
    return [event for event in events if isinstance(event, ToolCall)]


def test_a_schema_without_a_grammar_is_checked_afterwards(session):
    [call] = calls(session, [UNHELD])
    assert call.arguments["country"] == "Norway"
    assert call.problem == "country is 'Norway', which is ruled out"


@pytest.mark.parametrize(
    ("tools", "options"),
    [
        ([{**UNHELD, "strict": True}], {}),
        ([{**UNHELD, "strict": True}, GREP], {"tool_choice": "required"}),
        ([UNHELD], {"constrain_calls": True}),
        ([UNHELD], {"tool_choice": "required"}),
        ([UNHELD, GREP], {"tool_choice": "lookup"}),
    ],
)
def test_it_refuses_where_it_has_to_be_held(session, tools, options):
    before = list(session.ids)
    with pytest.raises(
        GemmaError, match="calls of lookup cannot be held to its schema: the keyword not is not supported"
    ):
        session.chat(ASKED, Options(tools=tools, **options))
    assert session.ids == before


@pytest.mark.parametrize("seed", range(4))
def test_beside_a_strict_tool_it_stays_free(session, seed):
    strict = {"name": "count", "parameters": NUMBER, "strict": True}
    for call in calls(session, [UNHELD, GREP, strict], seed, tool_choice="required")[:1]:
        assert call.name in ("lookup", "grep", "count")
        assert call.name == "lookup" or call.problem == ""


def test_a_grammar_that_llguidance_refuses_is_named_by_its_tool(session):
    step = {"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 2**40}}}
    with pytest.raises(GemmaError, match="calls of count: .*multipleOf"):
        session.chat(ASKED, Options(tools=[{"name": "count", "parameters": step, "strict": True}]))
    assert calls(session, [LOOKUP, {"name": "count", "parameters": step}], tool_choice="required")


def test_no_pattern_holds_the_answer_up(session):
    tool = {"name": "f", "parameters": {**FROZEN, "required": ["a"]}}
    [call] = calls(session, [tool], tool_choice="required")
    assert (call.arguments, call.problem) == ({"a": "a" * 60}, "")


def test_an_argument_with_a_control_tokens_name_is_text(session):
    place = {"type": "object", "properties": {"mark": {"const": "<turn|>"}}, "required": ["mark"]}
    [call] = calls(session, [{"name": "say", "parameters": place}], tool_choice="required")
    assert (call.arguments, call.problem) == ({"mark": "<turn|>"}, "")


def test_names_with_colons_and_names_that_need_quotes(session):
    names = {name: {"enum": ["x"]} for name in ("og:title", "a,b", "x}y", "[0]", '"q"')}
    tool = {"name": "google:mcp:make_pdf", "parameters": {"type": "object", "properties": names, "required": [*names]}}
    [call] = calls(session, [tool], tool_choice="required")
    assert (call.name, call.arguments, call.problem) == ("google:mcp:make_pdf", dict.fromkeys(names, "x"), "")
