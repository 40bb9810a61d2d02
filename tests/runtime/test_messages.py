"""What messages are taken, and in which form templates get them."""

from __future__ import annotations

import pytest

from runtime.errors import GemmaError
from runtime.messages import checked, with_responses

ASKED = {"role": "user", "content": "hi"}
CALLING = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {}}}]}
ANSWER = {"role": "tool", "tool_call_id": "1", "content": "x"}


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "no messages"),
        ([{"role": "robot", "content": ""}], "message 0: the role 'robot' is not one of"),
        ([ASKED, ANSWER], "message 1: a tool's response without a call"),
        ([ASKED, CALLING], "the last message calls tools that have not answered"),
        ([{"role": "user", "content": None}], "message 0: the content None is not text"),
        ([{"role": "user", "content": 5}], "message 0: the content 5 is not text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "a part of the kind 'image_url', bundles read text"),
        ([{"role": "user", "content": ["x"]}], "a part of the kind 'x'"),
        ([ASKED, {"role": "assistant", "tool_calls": [{"name": "f"}]}, ANSWER], "is not a tool call"),
        (
            [ASKED, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}, ANSWER],
            "is not a tool call",
        ),
        (
            [ASKED, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}, ANSWER],
            "the arguments of 'f' are not an object",
        ),
    ],
)
def test_refused(messages, message):
    with pytest.raises(GemmaError, match=message):
        checked(messages)


def test_arguments_in_a_string_are_decoded():
    given = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"a": [1]}'}}]}
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
