"""Requests as clients send them, answered by the server: what they leave in, add, and ask too much of."""

from __future__ import annotations

import json

import openai
import pytest

from runtime.serve.app import Limits
from tests.serving import QUESTION, ask, serving

pytestmark = pytest.mark.slow

LASTING = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array", "minItems": 500}}}
SYSTEM = {"role": "system", "content": "Be terse."}
LATER = [
    SYSTEM,
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "system", "content": "Answer in one word."},
    *QUESTION,
]


@pytest.fixture(scope="module")
def served(bundle):
    with serving(bundle("sample", "int8")) as found:
        yield found


@pytest.fixture(scope="module")
def client(served):
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": LATER},
        {"messages": [{**turn, "role": turn["role"].replace("system", "developer")} for turn in LATER]},
        {"min_p": 0, "repetition_penalty": 1.0, "top_k": -1, "top_logprobs": 0, "store": True, "verbosity": "low"},
        {"chat_template_kwargs": {"enable_thinking": False}, "prompt_cache_key": "x", "parallel_tool_calls": False},
        {
            "messages": [
                *QUESTION,
                {"role": "assistant", "content": "Oslo.", "finish_reason": "stop", "refusal": None, "index": 0},
                *QUESTION,
            ]
        },
    ],
)
def test_what_clients_send_is_answered(served, fields):
    body = {"model": served.model, "messages": QUESTION, "temperature": 0, "max_tokens": 40}
    status, _, raw = ask(served, body | fields)
    assert (status, json.loads(raw)["choices"][0]["message"]["role"]) == (200, "assistant")


def test_a_later_system_message_reaches_the_model(served, client):
    asked = {"model": served.model, "temperature": 0, "max_tokens": 1}
    counts = [
        client.chat.completions.create(**asked, messages=turns).usage.prompt_tokens
        for turns in (LATER, [turn for turn in LATER if turn["content"] != "Answer in one word."])
    ]
    assert counts[0] - counts[1] >= len(["Answer", "in", "one", "word."])


def test_thinking_is_switched_by_the_templates_name_for_it(served, client):
    asked = {"model": served.model, "messages": QUESTION, "temperature": 0, "max_tokens": 60}
    thought, plain = (
        client.chat.completions.create(**asked, extra_body={"chat_template_kwargs": {"enable_thinking": on}})
        for on in (True, False)
    )
    assert thought.choices[0].message.reasoning_content
    assert thought.usage.completion_tokens_details.reasoning_tokens > 0
    assert not hasattr(plain.choices[0].message, "reasoning_content")


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_over_the_context_has_the_code_that_clients_know(served, client, stream):
    long = [{"role": "user", "content": "What is the capital of Norway? " * 1000}]
    with pytest.raises(openai.BadRequestError, match="the context is") as refused:
        client.chat.completions.create(model=served.model, messages=long, stream=stream)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")


@pytest.mark.parametrize("limit", [{"max_tokens": 32000}, {"max_tokens": -1}, {"max_completion_tokens": 10**20}])
def test_a_limit_above_ours_is_ours(bundle, limit):
    with serving(bundle("sample", "int8"), Limits(waiting=1, tokens=12, seconds=60, body=65536)) as short:
        status, _, raw = ask(short, {"model": short.model, "messages": QUESTION, "response_format": LASTING} | limit)
    found = json.loads(raw)
    assert status == 200, found
    assert (found["choices"][0]["finish_reason"], found["usage"]["completion_tokens"]) == ("length", 12)


def test_an_object_of_json_may_have_a_schema(served, client):
    schema = {
        "type": "object",
        "properties": {"capital": {"type": "string", "maxLength": 12}},
        "required": ["capital"],
        "additionalProperties": False,
    }
    made = client.chat.completions.create(
        model=served.model, messages=QUESTION, temperature=0, response_format={"type": "json_object", "schema": schema}
    )
    assert json.loads(made.choices[0].message.content).keys() == {"capital"}
