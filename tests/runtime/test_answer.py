"""Chats with the sample: thoughts and their budget, calls and their grammar, turns that go on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import GemmaError
from runtime.language.events import End, Text, Thought, ToolCall, assistant_message, tool_message
from runtime.session.answer import Answer
from runtime.session.answer_reader import AnswerReader
from runtime.session.model import Model
from runtime.session.options import Options
from runtime.session.session import Session
from runtime.session.structured import Choice, JsonSchema
from tests.hostile import replaced

ASKED = [{"role": "user", "content": "What is the capital of Norway?"}]
STRINGS = {"type": "object", "properties": {"country": {"type": "string"}, "field": {"type": "string"}}}
LOOKUP = {
    "name": "lookup",
    "description": "Look up a fact",
    "parameters": {**STRINGS, "required": ["country", "field"]},
}
STRICT = {
    "type": "object",
    "properties": {
        "country": {"enum": ["Chad", "Peru", None]},
        "field": {"type": "string", "pattern": "^[a-c]{2,4}$"},
        "Count": {"type": "integer", "minimum": 3, "maximum": 9},
        "box": {
            "type": "object",
            "properties": {"flags": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2}},
            "required": ["flags"],
        },
        "more": {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]},
        "tree": {"$ref": "#/$defs/tree"},
    },
    "required": ["country", "field", "box", "tree"],
    "$defs": {
        "tree": {
            "type": "object",
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/tree"}, {"const": "end"}]}},
            "required": ["next"],
            "additionalProperties": False,
        }
    },
}


@pytest.fixture(scope="module")
def session(bundle):
    return Model.open(bundle("sample", "int4-datafree"), threads=1).session()


def answer(session, messages=ASKED, limit=120, **options):
    *events, end = session.chat(messages, Options(**{"temperature": 0, "max_new_tokens": limit} | options))
    assert isinstance(end, End)
    return events, end


def joined(events, kind):
    return "".join(event.text for event in events if isinstance(event, kind))


def test_an_answer_is_text_and_an_end(session):
    events, end = answer(session)
    assert joined(events, Text) == "The capital of Norway is Oslo."
    assert {type(event) for event in events} == {Text}
    assert (end.stop, end.thought_tokens) == ("stop", 0)


def test_thoughts_are_events_of_their_own(session):
    events, end = answer(session, thinking=True)
    assert joined(events, Thought) == "A question about Norway: capital."
    assert joined(events, Text) == "The capital of Norway is Oslo."
    assert end.thought_tokens == len(session.tokenizer.encode("A question about Norway: capital.\n", bos=False))


@pytest.mark.parametrize(("budget", "thought"), [(0, ""), (1, "A"), (3, "A question about"), (99, None)])
def test_a_thought_is_closed_when_its_budget_is_spent(session, budget, thought):
    events, end = answer(session, thinking=True, thinking_budget=budget)
    assert joined(events, Thought) == (thought if thought is not None else "A question about Norway: capital.")
    assert joined(events, Text) == "The capital of Norway is Oslo."
    assert end.thought_tokens <= budget + 1, "one for the line break"


def test_a_closed_thought_reads_as_templates_write_it(session):
    answer(session, thinking=True, thinking_budget=3)
    said = session.tokenizer.pieces.decode(session.ids, skip_special_tokens=False)
    assert "<|channel>thought\nA question about\n<channel|>The capital" in said
    answer(session, thinking=True, thinking_budget=0)
    assert "<|channel>thought\n<channel|>The" in session.tokenizer.pieces.decode(session.ids, skip_special_tokens=False)


def test_past_thoughts_are_left_out(session):
    events, _ = answer(session, thinking=True)
    later = [*ASKED, assistant_message(events), {"role": "user", "content": "What is the capital of Peru?"}]
    events, end = answer(session, later, thinking=True)
    assert joined(events, Text) == "The capital of Peru is Lima."
    said = session.tokenizer.pieces.decode(session.ids, skip_special_tokens=False)
    assert "A question about Norway" not in said
    assert end.reused >= len(session.tokenizer.chat(ASKED, enable_thinking=True)) - 1


def test_a_response_continues_the_turn(session):
    events, first = answer(session, tools=[LOOKUP])
    [call] = events
    assert call == ToolCall("call_1", "lookup", {"country": "Norway", "field": "capital"})
    assert first.stop == "tool_calls"
    turns = [*ASKED, assistant_message(events), tool_message(call, "Oslo")]
    events, end = answer(session, turns, tools=[LOOKUP])
    said = session.tokenizer.pieces.decode(session.ids, skip_special_tokens=False)
    assert joined(events, Text)
    assert said.count("<|turn>model") == 1
    assert end.reused == first.prompt_tokens + first.new_tokens, "the call is read once"


def test_a_mapping_is_written_as_released_templates_write_it(bundle, session, tmp_path):
    events, _ = answer(session, tools=[LOOKUP])
    folder = shutil.copytree(bundle("sample", "int4-datafree"), tmp_path / "other.bundle")
    replaced("chat_template.jinja", (Path(__file__).parent / "constructs.jinja").read_bytes())(folder)
    other = Model.open(folder, threads=1).session()
    turns = [*ASKED, assistant_message(events), tool_message(events[0], {"value": "Oslo", "n": 1})]
    answer(other, turns, tools=[LOOKUP])
    said = other.tokenizer.pieces.decode(other.ids, skip_special_tokens=False)
    assert '<|tool_response>response:lookup{n:1,value:<|"|>Oslo<|"|>}<tool_response|>' in said


def test_a_call_of_what_is_not_declared_has_a_problem(session):
    other = {**LOOKUP, "parameters": {**STRINGS, "required": ["country", "field", "year"]}}
    [call], end = answer(session, tools=[other])
    assert call.problem == "year is missing"
    assert end.stop == "tool_calls"


class Loud:
    """An engine that wants nothing but one token."""

    def __init__(self, engine, token):
        self._engine, self._token = engine, token

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def forward(self, piece):
        step = self._engine.forward(piece)
        step.logits[:, self._token] = 1e9
        return step


def test_without_tools_there_are_no_calls(session):
    model = session.model
    loud = Session(model, Loud(model.weights.engine(), session.control.call))
    events, _ = answer(loud, limit=5)
    assert joined(events, Text)
    assert not [event for event in events if isinstance(event, ToolCall)]
    calls, _ = answer(loud, limit=5, tools=[LOOKUP])
    assert len(calls) == 5
    assert all("call:NAME{ was expected" in call.problem for call in calls)


def test_a_functions_declaration_reaches_the_prompt(session):
    def lookup(country: str, field: str) -> str:
        """Look up a fact"""
        return f"{country}{field}"

    [call], _ = answer(session, tools=[lookup])
    assert call.arguments == {"country": "Norway", "field": "capital"}
    assert "Look up a fact" in session.tokenizer.pieces.decode(session.ids, skip_special_tokens=False)


@pytest.mark.parametrize("seed", range(6))
def test_constrained_calls_fit_their_schema(session, seed):
    tool = {"name": "lookup", "description": "Look up a fact", "parameters": STRICT}
    events, end = answer(
        session, temperature=2.0, top_k=0, top_p=1.0, seed=seed, limit=400, tools=[tool], constrain_calls=True,
        response_format=Choice(["never mind"]),
    )  # fmt: skip
    calls = [event for event in events if isinstance(event, ToolCall)]
    if end.stop == "length":
        calls = calls[:-1]
    assert [call.problem for call in calls] == [""] * len(calls)
    assert calls or joined(events, Text) == "never mind" or end.stop == "length"


def test_a_form_waits_for_the_thought(session):
    schema = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Lima"]}}, "required": ["city"]}
    events, end = answer(session, thinking=True, response_format=JsonSchema({**schema, "additionalProperties": False}))
    assert joined(events, Thought)
    assert joined(events, Text) in ('{"city": "Oslo"}', '{"city": "Lima"}')
    assert end.stop == "stop"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"thinking_budget": 5}, "thinking budget 5"),
        ({"thinking": True, "thinking_budget": -1}, "thinking budget -1"),
        ({"tools": [{"x": 1}]}, "is not a tool"),
        ({"limit": 0}, "max new tokens must be at least 1, not 0"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "is a tool's response"),
    ],
)
def test_refused_before_anything_runs(session, options, message):
    before = list(session.ids)
    with pytest.raises(GemmaError, match=message):
        answer(session, **options)
    assert session.ids == before


def test_a_model_without_the_tokens_refuses_tools_and_thoughts(bundle):
    session = Model.open(bundle("e2b"), threads=1).session()
    with pytest.raises(GemmaError, match="cannot call tools"):
        session.chat(ASKED, Options(tools=[LOOKUP]))
    with pytest.raises(GemmaError, match="cannot think first"):
        session.chat(ASKED, Options(thinking=True))


class Told:
    """A grammar that keeps the tokens it is told, and would allow any."""

    def __init__(self):
        self.ids: list[int] = []
        self.started = False

    def take(self, token):
        self.ids.append(token)
        self.started = True


def test_a_grammar_is_told_the_tokens_between_its_marks_and_no_other(session):
    tokenizer, control = session.tokenizer, session.control
    response: Any = Told()  # in a matcher's place
    calls: list[Any] = []

    def call_grammar():
        calls.append(Told())
        return calls[-1]

    reader = AnswerReader(tokenizer, control, tokenizer.chat(ASKED), lambda call: ({}, ""))
    answer = Answer(
        reader, tokenizer, control, [], Options(thinking=True), calling=True, response=response, calls=call_grammar
    )
    first, second, text = "call:f{}", "call:g{n:1}", "Oslo."
    said = f"<|channel>thought\nHm.\n<channel|><|tool_call>{first}<tool_call|><|tool_call>{second}<tool_call|>{text}"
    for token in tokenizer.encode(said, bos=False):
        answer.push(token)
    assert [tokenizer.pieces.decode(grammar.ids, skip_special_tokens=False) for grammar in calls] == [first, second, ""]
    assert tokenizer.pieces.decode(response.ids, skip_special_tokens=False) == text
