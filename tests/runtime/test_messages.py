"""What messages are taken, and in which form templates get them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.errors import GemmaError
from runtime.language.messages import checked, with_responses

ASKED = {"role": "user", "content": "hi"}
CALLING = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {}}}]}
ANSWER = {"role": "tool", "tool_call_id": "1", "content": "x"}


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "there are no messages"),
        ("hi", "messages must be a list, not 'hi'"),
        (5, "messages must be a list, not 5"),
        ({"role": "user", "content": "x"}, "messages must be a list"),
        (["hi"], "message 0 must be an object, not 'hi'"),
        ([ASKED, 5], "message 1 must be an object, not 5"),
        ([ASKED, None], "message 1 must be an object, not None"),
        ([[ASKED]], "message 0 must be an object"),
        ([{"content": "x"}], "message 0: the role must be one of .*, not None"),
        ([{"role": [], "content": "x"}], "message 0: the role must be one of"),
        ([{"role": "robot", "content": ""}], "message 0: the role must be one of .*, not 'robot'"),
        ([ASKED, ANSWER], "message 1 is a tool's response, but no call"),
        ([ASKED, CALLING], "the last message calls tools that have not answered"),
        ([{"role": "user", "content": None}], "message 0: the content must be text, not None"),
        ([{"role": "user", "content": 5}], "message 0: the content must be text, not 5"),
        (
            [{"role": "user", "content": [{"type": "image_url"}]}],
            "a part of the kind 'image_url', but bundles read only text",
        ),
        ([{"role": "user", "content": ["x"]}], "a part of the kind 'x'"),
        ([ASKED, {"role": "assistant", "tool_calls": 5}, ANSWER], "message 1: tool_calls must be a list, not 5"),
        (
            [ASKED, {"role": "assistant", "tool_calls": "f()"}, ANSWER],
            "message 1: tool_calls must be a list, not 'f\\(\\)'",
        ),
        ([ASKED, {"role": "assistant", "tool_calls": [{"name": "f"}]}, ANSWER], "is not a tool call"),
        (
            [ASKED, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}, ANSWER],
            "is not a tool call",
        ),
        (
            [ASKED, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}, ANSWER],
            "the arguments of 'f' must be an object",
        ),
    ],
)
def test_refused(messages, message):
    with pytest.raises(GemmaError, match=message):
        checked(messages)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "\ud800 hi"},
        {"role": "user", "content": [{"type": "text", "text": "hi \udfff"}]},
        {"role": "user", "content": "hi", "\udc00": 1},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": ["\ud83d"]}}}]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"a": "\\ud800"}'}}]},
    ],
)
def test_half_of_a_character_is_refused_wherever_it_stands(message):
    with pytest.raises(GemmaError, match="message 1: .*is half of a character"):
        checked([ASKED, message, ANSWER])


def test_both_halves_as_json_writes_them_are_a_character():
    assert checked([json.loads(r'{"role": "user", "content": "\ud83d\ude00"}')])[0]["content"] == "\U0001f600"


def test_messages_that_are_too_deep_are_refused():
    arguments = json.loads('{"a":' * 900 + "1" + "}" * 900)
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}
    with pytest.raises(GemmaError, match="message 1: values are nested too deeply"):
        checked([ASKED, call, ANSWER])


def test_arguments_in_a_string_are_decoded():
    given: dict[str, Any] = {
        "role": "assistant",
        "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"a": [1]}'}}],
    }
    made = checked([ASKED, given, ANSWER])
    assert made[1]["tool_calls"][0]["function"] == {"name": "f", "arguments": {"a": [1]}}
    assert given["tool_calls"][0]["function"]["arguments"] == '{"a": [1]}', "what was given is left alone"


def test_mappings_go_where_templates_write_them_as_such():
    other = {"role": "tool", "name": "g", "content": {"value": 3}}
    last = {"role": "assistant", "content": "done"}
    moved = with_responses([ASKED, CALLING, ANSWER, other, last])
    assert [message["role"] for message in moved] == ["user", "assistant", "assistant"]
    assert moved[1]["tool_responses"] == [{"name": "f", "response": "x"}, {"name": "g", "response": {"value": 3}}]
    assert with_responses([ASKED, CALLING, ANSWER, last]) == [ASKED, CALLING, ANSWER, last]
    assert "tool_responses" not in CALLING


def test_many_responses_are_moved_in_time_that_grows_with_their_number():
    calls = [{"id": str(index), "function": {"name": f"f{index}", "arguments": {}}} for index in range(20_000)]
    answers = [{"role": "tool", "tool_call_id": str(index), "content": {"n": index}} for index in range(20_000)]
    moved = with_responses([ASKED, {**CALLING, "tool_calls": calls}, *answers])
    assert len(moved) == 2
    assert moved[1]["tool_responses"][-1] == {"name": "f19999", "response": {"n": 19999}}
