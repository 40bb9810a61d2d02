"""Tokens of an answer to events, token by token, on the sample's tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.bundle.bundle import Bundle
from runtime.calls.text import render_call
from runtime.calls.values import arguments_of
from runtime.language.control_tokens import QUOTE, ControlTokens
from runtime.language.events import Text, Thought, ToolCall, assistant_message, tool_message
from runtime.language.tokenizer import Tokenizer
from runtime.session.answer_reader import AnswerReader

PROMPT = "<bos><|turn>user\nhi<turn|>\n<|turn>model\n"
# No "▁": the sample's tokenizer, like Gemma's, makes a space of it.
STRINGS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="<▁"), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc_1", min_size=1), inner, max_size=3),
)


@pytest.fixture(scope="module")
def tokenizer(bundle):
    return Tokenizer.of(Bundle.open(bundle("sample", "int4-datafree")))


@pytest.fixture(scope="module")
def read(tokenizer):
    control = ControlTokens.of(tokenizer.pieces.token_to_id)

    def events(answer: str, prompt: str = PROMPT, check=lambda call: (arguments_of(call.tree(), {}), "")):
        reader = AnswerReader(tokenizer, control, tokenizer.encode(prompt, bos=False), check)
        found = [event for token in tokenizer.encode(answer, bos=False) for event in reader.push(token)]
        return [*found, *reader.finish()], reader

    return events


def joined(events, kind):
    return "".join(event.text for event in events if isinstance(event, kind))


@pytest.mark.parametrize(
    ("answer", "thought", "text"),
    [
        ("Oslo.", "", "Oslo."),
        ("<|channel>thought\nHm.\n\nWell.\n<channel|>Oslo.\n", "Hm.\n\nWell.", "Oslo.\n"),
        ("<|channel>thought\n<channel|>Oslo.", "", "Oslo."),
        ("<|channel>thought\ncut", "cut", ""),
        ("<|channel>though", "though", ""),
        ("<|channel>other\nx<channel|>y", "other\nx", "y"),
        ("<|channel><channel|>y", "", "y"),
        ("<channel|>y <tool_call|>z", "", "y z"),
        ("naïve 🙂 日本", "", "naïve 🙂 日本"),
    ],
)
def test_thoughts_and_text_are_told_apart(read, answer, thought, text):
    events, _ = read(answer)
    assert (joined(events, Thought), joined(events, Text)) == (thought, text)


def test_a_prompt_may_end_inside_a_thought(read):
    events, reader = read("Hm.\n<channel|>Oslo.", PROMPT + "<|channel>thought\n")
    assert (joined(events, Thought), joined(events, Text)) == ("Hm.", "Oslo.")
    events, _ = read("Oslo.", PROMPT + "<|channel>thought\n<channel|>")
    assert (joined(events, Thought), joined(events, Text)) == ("", "Oslo.")


def test_a_thought_comes_as_it_grows(read):
    events, _ = read("<|channel>thought\nOne two three.\n<channel|>x")
    assert len([event for event in events if isinstance(event, Thought)]) > 2


def test_parallel_calls_and_text_between(read):
    first, second = render_call("f", {"a": "x"}), render_call("g", {})
    events, reader = read(f"Wait.<|tool_call>{first}<tool_call|><|tool_call>{second}<tool_call|>")
    calls = [event for event in events if isinstance(event, ToolCall)]
    assert calls == [ToolCall("call_1", "f", {"a": "x"}), ToolCall("call_2", "g", {})]
    assert (joined(events, Text), reader.calls) == ("Wait.", 2)


@pytest.mark.parametrize(
    ("answer", "name", "problem"),
    [
        ("<|tool_call>call:f{a:1<tool_call|>", "f", "ends where"),
        ("<|tool_call>call:f{a:1", "f", "ends where"),
        ("<|tool_call>call:f{a:1<|tool_call>", "f", "ends where"),
        ("<|tool_call>nonsense<tool_call|>", "unknown", "call:NAME"),
        ('<|tool_call>call:f{a:<|"|>x<|"|>y}<tool_call|>', "f", "behind a value"),
    ],
)
def test_a_call_that_can_not_be_read_says_why(read, answer, name, problem):
    call = next(event for event in read(answer)[0] if isinstance(event, ToolCall))
    assert (call.name, call.arguments) == (name, {})
    assert problem in call.problem


def test_a_call_is_checked(read):
    [call] = read(
        "<|tool_call>call:f{a:1}<tool_call|>",
        check=lambda call: (arguments_of(call.tree(), {}), f"{call.name} is not known"),
    )[0]
    assert (call.arguments, call.problem) == ({"a": 1}, "f is not known")


def test_quotes_that_are_spelled_do_not_end_a_string(read, tokenizer):
    control = ControlTokens.of(tokenizer.pieces.token_to_id)
    reader = AnswerReader(tokenizer, control, [], lambda call: (arguments_of(call.tree(), {}), ""))
    pieces = ["call:f{a:", control.quote, "x", "<|", '"', "|>", "y", control.quote, "}"]
    ids = [control.call]
    for piece in pieces:
        ids += [piece] if isinstance(piece, int) else tokenizer.encode(piece, bos=False)
    for token in ids:
        assert reader.push(token) == []
    assert reader.push(control.call_end) == [ToolCall("call_1", "f", {"a": f"x{QUOTE}y"})]


@settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(arguments=st.dictionaries(st.text("abc_1", min_size=1), VALUES, max_size=4))
def test_random_calls_come_back_through_the_tokenizer(read, arguments):
    assert read(f"<|tool_call>{render_call('f', arguments)}<tool_call|>")[0] == [ToolCall("call_1", "f", arguments)]


def test_events_become_messages(read):
    events, _ = read("<|channel>thought\nHm.\n<channel|>Wait.<|tool_call>call:f{a:1}<tool_call|>")
    message = assistant_message(events)
    assert message == {
        "role": "assistant",
        "content": "Wait.",
        "reasoning": "Hm.",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}],
    }
    response = tool_message(events[-1], {"value": 3})
    assert response == {"role": "tool", "tool_call_id": "call_1", "name": "f", "content": {"value": 3}}
    assert assistant_message([Text("a"), Text("b")]) == {"role": "assistant", "content": "ab"}
