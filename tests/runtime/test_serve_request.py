"""The body of a chat completion: what is understood, and what is refused by its name."""

import json

import pytest

from runtime.sampler import Sampling
from runtime.serve_errors import Refusal
from runtime.serve_request import Asked, asked
from runtime.structured import JsonSchema

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
PATTERN = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^a+$"}}}
DEFAULTS = Sampling(0.7, 40, 0.9)


def read(**fields: object) -> Asked:
    return asked(json.dumps(BODY | fields).encode(), "m", DEFAULTS, most=100)


def test_a_small_request_takes_the_defaults():
    found = read()
    assert found.messages == BODY["messages"]
    assert found.sampling == DEFAULTS
    assert (found.limit, found.stops, found.stream, found.thinking) == (100, [], False, False)
    assert found.response_format is None


def test_fields_are_taken():
    found = read(
        temperature=0, top_p=0.5, seed=3, max_completion_tokens=7, stop=["a", "b"], stream=True,
        stream_options={"include_usage": True}, tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "f"}}, parallel_tool_calls=False, reasoning_effort="low",
    )  # fmt: skip
    assert found.sampling == Sampling(0, 40, 0.5, 3)
    assert (found.limit, found.stops, found.stream, found.include_usage) == (7, ["a", "b"], True, True)
    assert (found.tools, found.tool_choice, found.parallel) == ([TOOL["function"]], "f", False)
    assert (found.thinking, found.budget) == (True, 256)


def test_the_older_name_of_the_limit_is_taken():
    assert read(max_tokens=5).limit == 5
    assert read(max_tokens=5, max_completion_tokens=5).limit == 5


def test_fields_that_ask_for_nothing_are_taken():
    read(n=1, logprobs=False, logit_bias={}, user="somebody", seed=None, service_tier="auto")


def test_what_a_tool_says_of_itself_reaches_the_session():
    strict = {"name": "f", "strict": True, "parameters": PATTERN}
    assert read(tools=[{"type": "function", "function": strict}]).tools == [strict]


def test_forms():
    assert read(response_format={"type": "text"}).response_format is None
    assert read(response_format={"type": "json_object"}).response_format == JsonSchema({"type": "object"})
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": PATTERN}}
    assert read(response_format=form).response_format == JsonSchema(PATTERN)


def test_a_thought_comes_back_under_our_name():
    turns = [*BODY["messages"], {"role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": None}]
    assert read(messages=turns).messages[1] == {"role": "assistant", "content": "", "reasoning": "Hm."}


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"n": 2}, "n", "n 2 is not supported"),
        ({"n": True}, "n", "n True is not supported"),
        ({"functions": []}, "functions", "functions .* is not supported"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "without stream"),
        ({"temperature": 3}, "temperature", "temperature"),
        ({"max_tokens": 101}, "max_completion_tokens", "101 tokens, this server gives 100"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "max_tokens 5 and"),
        ({"stop": ["a"] * 5}, "stop", "stop has 5 texts"),
        ({"stop": ""}, "stop", "stop has 1 texts"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]", "tool 0 is not a function"),
        ({"tools": [{"type": "function", "function": {"name": "f", "x": 1}}]}, "tools[0].function.x", "'x' of tool 0"),
        ({"tool_choice": "maybe"}, "tool_choice", "tool_choice 'maybe'"),
        ({"tool_choice": {"type": "function"}}, "tool_choice", "names no function"),
        ({"response_format": {"type": "grammar"}}, "response_format", "of the type 'grammar'"),
        ({"messages": [{"role": "user", "content": "x", "y": 1}]}, "messages[0].y", "'y' of message 0"),
        ({"messages": [{"role": "user", "name": 5}]}, "messages[0].name", "name of message 0 is not text"),
        ({"messages": [{"role": "user", "tool_calls": "x"}]}, "messages[0].tool_calls", "is not a list"),
    ],
)
def test_what_can_not_be_done_is_refused(fields, param, message):
    with pytest.raises(Refusal, match=message) as refused:
        read(**fields)
    assert refused.value.status == 400
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("raw", "status", "message"),
    [
        (b"{", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"[]", 400, "not an object"),
        (b"{}", 400, "model"),
        (b'{"model": "other", "messages": []}', 404, "there is no model 'other'"),
    ],
)
def test_a_body_that_is_no_request(raw, status, message):
    with pytest.raises(Refusal, match=message) as refused:
        asked(raw, "m", DEFAULTS, 100)
    assert refused.value.status == status
