"""The body of a chat completion: what is understood, and what is refused by its name."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from runtime.bundle.manifest import Generation
from runtime.engine.sampler import Sampling
from runtime.serve.refusal import Refusal
from runtime.serve.request import ChatRequest, chat_request
from runtime.session.options import Options
from runtime.session.structured import JsonSchema

BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
PATTERN = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^a+$"}}}


def request(**fields: object) -> ChatRequest:
    return chat_request(json.dumps(BODY | fields).encode(), "m", most=100)


def read(**fields: object) -> Options:
    return request(**fields).options


def test_a_small_request_takes_the_defaults():
    parsed = request()
    assert parsed == ChatRequest(BODY["messages"], Options(max_new_tokens=100, stop=[], tools=[]), False, False)
    generation = Generation(bos=2, stop=[1], temperature=0.7, top_k=40, top_p=0.9)
    assert parsed.options.sampling(generation) == Sampling(0.7, 40, 0.9)


def test_fields_are_taken():
    parsed = request(
        temperature=0, top_p=0.5, seed=3, max_completion_tokens=7, stop=["a", "b"], stream=True,
        stream_options={"include_usage": True}, tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "f"}}, parallel_tool_calls=False, reasoning_effort="low",
    )  # fmt: skip
    assert (parsed.stream, parsed.include_usage) == (True, True)
    assert parsed.options == Options(
        temperature=0, top_p=0.5, seed=3, max_new_tokens=7, stop=["a", "b"], tools=[TOOL["function"]], tool_choice="f",
        one_call=True, thinking=True, thinking_budget=256,
    )  # fmt: skip


def test_the_older_name_of_the_limit_is_taken():
    assert read(max_tokens=5).max_new_tokens == 5
    assert read(max_tokens=5, max_completion_tokens=5).max_new_tokens == 5


@pytest.mark.parametrize(
    "fields",
    [
        {"min_p": 0, "repetition_penalty": 1.0, "top_k": -1, "top_logprobs": 0},
        {"n": 1, "logprobs": False, "echo": False, "best_of": 1, "logit_bias": {}, "functions": []},
        {"user": "somebody", "metadata": {"a": "b"}, "safety_identifier": "x", "seed": None, "service_tier": "flex"},
        {"prompt_cache_key": "a", "prompt_cache_retention": "24h", "prediction": {"type": "content", "content": "x"}},
        {"store": True, "verbosity": "low", "parallel_tool_calls": True},
        {"store": False, "verbosity": "medium", "presence_penalty": 0, "frequency_penalty": 0.0},
        {"chat_template_kwargs": {}, "reasoning": {}, "reasoning_effort": None},
        {"chat_template_kwargs": {"enable_thinking": False}, "enable_thinking": False},
        {"reasoning": {"effort": "none", "exclude": False, "summary": "auto", "enabled": None}},
        {"min_tokens": 0, "ignore_eos": False, "skip_special_tokens": True, "keep_alive": "5m", "cache_prompt": True},
        {"tools": [], "tool_choice": "auto", "stop": None, "stream_options": None},
    ],
)
def test_fields_that_ask_for_nothing_are_taken(fields):
    expected = read(top_k=0) if "top_k" in fields else read()
    assert read(**fields) == expected


@pytest.mark.parametrize("given", [True, False])
def test_a_stream_may_say_what_its_pieces_are_padded_with(given):
    parsed = request(stream=True, stream_options={"include_usage": True, "include_obfuscation": given})
    assert parsed == request(stream=True, stream_options={"include_usage": True})


@pytest.mark.parametrize(
    ("fields", "thinking", "budget"),
    [
        ({"chat_template_kwargs": {"enable_thinking": True}}, True, None),
        ({"enable_thinking": True}, True, None),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False, None),
        ({"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "high"}, False, None),
        ({"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "low"}, True, 256),
        ({"reasoning_effort": "minimal"}, True, 64),
        ({"reasoning_effort": "xhigh"}, True, None),
        ({"reasoning_effort": "none"}, False, None),
        ({"reasoning": {"effort": "low"}}, True, 256),
        ({"reasoning": {"effort": "none"}}, False, None),
        ({"reasoning": {"enabled": True}}, True, None),
        ({"reasoning": {"max_tokens": 99}}, True, 99),
        ({"reasoning": {"effort": "low"}, "reasoning_effort": "low"}, True, 256),
    ],
)
def test_a_switch_says_whether_it_thinks_and_an_effort_how_long(fields, thinking, budget):
    parsed = read(**fields)
    assert (parsed.thinking, parsed.thinking_budget) == (thinking, budget)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(("given", "limit"), [(101, 100), (32000, 100), (10**30, 100), (-1, 100), (100, 100), (1, 1)])
def test_a_limit_is_what_this_server_gives_at_most(name, given, limit):
    assert read(**{name: given}).max_new_tokens == limit


def test_what_clients_replay_of_an_answer_is_ignored():
    kept = {
        "finish_reason": "stop", "refusal": None, "annotations": [], "audio": None, "function_call": None, "index": 0,
        "id": "msg_1", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}], "usage": {"total_tokens": 3},
        "provider_specific_fields": {"a": 1}, "logprobs": None, "model": "m", "created": 1, "status": "completed",
        "some_provider": {"trace": "x"},
    }  # fmt: skip
    said = {"role": "assistant", "content": "Oslo."}
    assert request(messages=[*BODY["messages"], said | kept]).messages[1] == said


def test_what_clients_note_at_any_message_is_ignored():
    noted = {"id": "1", "cache_control": {"type": "ephemeral"}, "createdAt": "2026", "metadata": {"a": 1}}
    turns = [{"role": role, "content": "x"} for role in ("system", "user", "assistant", "tool")]
    assert request(messages=[turn | noted for turn in turns]).messages == turns


def test_what_clients_replay_of_a_call_is_ignored():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    added = {"index": 0, "problem": "none", "extra_content": {"google": {"thought_signature": "x"}}}
    turn = {"role": "assistant", "content": None, "tool_calls": [call | added]}
    assert request(messages=[*BODY["messages"], turn]).messages[1]["tool_calls"] == [call]


def test_of_a_tool_what_models_read_is_taken():
    function = {**TOOL["function"], "strict": False, "description": "d", "response": {"type": "object"}}
    added = {"cache_control": {"type": "ephemeral"}}
    assert read(tools=[{"type": "function", **added, "function": function | {"x": 1, "returns": None}}]).tools == [
        function
    ]
    [beside] = read(tools=[TOOL | {"strict": True}]).tools
    assert isinstance(beside, Mapping)
    assert beside["strict"], "strict may stand beside the function"


def test_what_a_tool_says_of_itself_reaches_the_session():
    strict = {"name": "f", "strict": True, "parameters": PATTERN}
    assert read(tools=[{"type": "function", "function": strict}]).tools == [strict]


def test_forms():
    assert read(response_format={"type": "text"}).response_format is None
    assert read(response_format={"type": "json_object"}).response_format == JsonSchema({"type": "object"})
    assert read(response_format={"type": "json_object", "schema": PATTERN}).response_format == JsonSchema(PATTERN)
    some: dict[str, Any] = {"properties": {"a": {}}}
    for given, schema in ((None, {"type": "object"}), ({}, {"type": "object"}), (some, {"type": "object", **some})):
        assert read(response_format={"type": "json_object", "schema": given}).response_format == JsonSchema(schema)
    notes = {"name": "x", "strict": None, "description": "d"}
    form = {"type": "json_schema", "json_schema": {"schema": PATTERN, **notes}}
    assert read(response_format=form).response_format == JsonSchema(PATTERN)
    beside = {"type": "json_schema", "schema": PATTERN, **notes}
    assert read(response_format=beside).response_format == JsonSchema(PATTERN)


def test_a_thought_comes_back_under_our_name():
    turns = [*BODY["messages"], {"role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": None}]
    assert request(messages=turns).messages[1] == {"role": "assistant", "content": "", "reasoning": "Hm."}


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"n": 2}, "n", "n 2 is not supported"),
        ({"n": True}, "n", "n True is not supported"),
        ({"functions": [{"name": "f"}]}, "functions", "functions .* is not supported"),
        ({"min_p": 0.1}, "min_p", "min_p 0.1 is not supported"),
        ({"min_p": False}, "min_p", "min_p False is not supported"),
        ({"repetition_penalty": 1.2}, "repetition_penalty", "repetition_penalty 1.2 is not supported"),
        ({"logprobs": True}, "logprobs", "logprobs True is not supported"),
        ({"top_logprobs": 2}, "top_logprobs", "top_logprobs 2 is not supported"),
        ({"echo": True}, "echo", "echo True is not supported"),
        ({"verbosity": "loud"}, "verbosity", "verbosity 'loud' is not supported"),
        ({"chat_template_kwargs": {"x": 1}}, "chat_template_kwargs", "unknown field `x`"),
        ({"chat_template_kwargs": {"enable_thinking": "yes"}}, "chat_template_kwargs", "enable_thinking"),
        ({"reasoning": {"exclude": True}}, "reasoning", "exclude|enum"),
        ({"reasoning": {"effort": "low"}, "reasoning_effort": "high"}, "reasoning", "two ways that differ"),
        ({"enable_thinking": True, "reasoning": {"enabled": False}}, "reasoning", "two ways that differ"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options", "unknown field `x`"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "without stream"),
        ({"temperature": 3}, "temperature", "temperature"),
        ({"max_tokens": 0}, "max_tokens", "max_tokens 0 asks for no answer"),
        ({"max_tokens": -2}, "max_tokens", "max_tokens"),
        ({"top_k": -2}, "top_k", "top_k"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens", "max_tokens 5 and"),
        ({"stop": ["a"] * 5}, "stop", "stop has 5 texts"),
        ({"stop": ""}, "stop", "stop has 1 texts"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]", "tool 0 is not a function"),
        ({"tool_choice": "maybe"}, "tool_choice", "tool_choice 'maybe'"),
        ({"tool_choice": {"type": "function"}}, "tool_choice", "names no function"),
        ({"response_format": {"type": "grammar"}}, "response_format", "of the type 'grammar'"),
        (
            {"response_format": {"type": "json_object", "grammar": "x"}},
            "response_format.grammar",
            "'grammar' of a response_format json_object",
        ),
        (
            {"response_format": {"type": "text", "schema": {}}},
            "response_format.schema",
            "'schema' of a response_format",
        ),
        ({"response_format": {"type": "json_schema", "json_schema": 5}}, "response_format", "has no schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "has no schema"),
        ({"response_format": {"type": "json_object", "schema": True}}, "response_format", "has no schema"),
        ({"response_format": {"type": ["text"]}}, "response_format", "is unknown, or has no schema"),
        ({"messages": [{"role": "user", "content": "x", "y": 1}]}, "messages[0].y", "'y' of message 0"),
        (
            {"messages": [{"role": "user", "content": "x", "images": ["a"]}]},
            "messages[0].images",
            "'images' of message",
        ),
        ({"messages": [{"role": "user", "content": "x", "finish_reason": "stop"}]}, "messages[0].finish_reason", "of"),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "messages[0].audio", "'audio' of message 0"),
        (
            {"messages": [{"role": "assistant", "function_call": {"name": "f"}}]},
            "messages[0].function_call",
            "'function_call' of message 0",
        ),
        ({"messages": [{"role": "assistant", "content": "x", "prefix": True}]}, "messages[0].prefix", "'prefix' of"),
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
        (b'{"model": "m", "messages": [{"role": "user", "content": "caf\xe9"}]}', 400, "not JSON"),
        (b"[]", 400, "not a JSON object"),
        (b"{}", 400, "model"),
        (b'{"model": "other", "messages": []}', 404, "there is no model 'other'"),
    ],
)
def test_a_body_that_is_no_request(raw, status, message):
    with pytest.raises(Refusal, match=message) as refused:
        chat_request(raw, "m", 100)
    assert refused.value.status == status
