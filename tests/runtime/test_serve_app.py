"""The server, asked by the public openai client and by clients that misbehave."""

from __future__ import annotations

import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from runtime.engine.piece import Piece
from runtime.serve.app import Limits
from tests.paced import Pause, paced
from tests.serving import QUESTION, ask, serving, until

pytestmark = pytest.mark.slow

TOOL = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "Look up a fact about a country",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"country": {"type": "string"}, "field": {"type": "string"}},
            "required": ["country", "field"],
        },
    },
}


@pytest.fixture(scope="module")
def served(bundle):
    with serving(bundle("sample", "int8")) as found:
        yield found


@pytest.fixture(scope="module")
def client(served):
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)


def test_the_client_lists_the_model(served, client):
    assert [one.id for one in client.models.list()] == [served.model]
    assert client.models.retrieve(served.model).id == served.model
    with pytest.raises(openai.NotFoundError, match="there is no model 'other'"):
        client.models.retrieve("other")


def test_the_client_chats(served, client):
    whole = client.chat.completions.create(model=served.model, messages=QUESTION, temperature=0)
    assert "Oslo" in whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "stop"
    usage = whole.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > usage.prompt_tokens > 0


def test_a_stream_is_the_whole_answer_in_pieces(served, client):
    asked = {"model": served.model, "messages": QUESTION, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    pieces = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(one.choices[0].delta.content or "" for one in pieces if one.choices)
    assert text == whole.choices[0].message.content
    assert [one.choices[0].finish_reason for one in pieces if one.choices][-1] == "stop"
    assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len(pieces) > 4


def test_a_tool_is_called_and_its_answer_read(served, client):
    made = client.chat.completions.create(
        model=served.model, messages=QUESTION, tools=[TOOL], tool_choice="required", temperature=0
    )
    assert made.choices[0].finish_reason == "tool_calls"
    (call,) = made.choices[0].message.tool_calls
    assert call.function.name == "lookup"
    assert json.loads(call.function.arguments).keys() == {"country", "field"}
    turns = [*QUESTION, made.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "Oslo"}]
    said = client.chat.completions.create(model=served.model, messages=turns, tools=[TOOL], temperature=0)
    assert said.choices[0].finish_reason in ("stop", "tool_calls")


def test_an_answer_has_the_form_of_its_schema(served, client):
    schema = {
        "type": "object",
        "properties": {"capital": {"type": "string", "maxLength": 12}, "sure": {"type": "boolean"}},
        "required": ["capital", "sure"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    made = client.chat.completions.create(model=served.model, messages=QUESTION, response_format=form, temperature=0)
    found = json.loads(made.choices[0].message.content)
    assert found.keys() == {"capital", "sure"}
    assert isinstance(found["sure"], bool)


def test_a_limit_is_said_and_stop_words_end_an_answer(served, client):
    asked = {"model": served.model, "messages": QUESTION, "temperature": 0}
    short = client.chat.completions.create(**asked, max_tokens=2)
    assert (short.choices[0].finish_reason, short.usage.completion_tokens) == ("length", 2)
    cut = client.chat.completions.create(**asked, stop=["Oslo"])
    assert "Oslo" not in cut.choices[0].message.content
    assert cut.choices[0].finish_reason == "stop"


def test_a_seed_draws_the_same_twice(served, client):
    asked = {"model": served.model, "messages": QUESTION, "temperature": 2.0, "seed": 7, "max_tokens": 20}
    first, again = (client.chat.completions.create(**asked).choices[0].message.content for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("n", 2, "n 2 is not supported"),
        ("logprobs", True, "logprobs True is not supported"),
        ("messages", [], "messages"),
        ("temperature", 9, "temperature"),
        ("frobnicate", 1, "frobnicate 1 is not supported"),
        ("messages", [{"role": "wizard", "content": "x"}], "wizard"),
        ("max_tokens", 0, "max_tokens"),
    ],
)
def test_what_can_not_be_done_is_refused_in_openais_shape(served, field, value, said):
    status, _, raw = ask(served, {"model": served.model, "messages": QUESTION, field: value})
    error = json.loads(raw)["error"]
    assert status == 400
    assert error["type"] == "invalid_request_error"
    assert said in error["message"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"[" * 100_000, {}, 413),
        (b"[" * 50_000, {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {"Host": "evil.example"}, 403),
        (b"{}", {"Origin": "http://evil.example"}, 403),
    ],
)
def test_hostile_requests_get_a_status_and_a_sentence(served, body, headers, status):
    found, _, raw = ask(served, body, headers)
    assert found == status
    assert json.loads(raw)["error"]["message"]


def test_health_and_the_page(served):
    status, _, raw = ask(served, None, method="GET", path="/health")
    assert (status, json.loads(raw)["status"]) == (200, "ok")
    status, headers, raw = ask(served, None, method="GET", path="/")
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert b"http://" not in raw.replace(b"http://www.w3.org", b"")
    assert b"https://" not in raw
    assert ask(served, None, method="GET", path="/nothing")[0] == 404


def test_fifty_clients_are_answered_or_refused_cleanly(bundle):
    with serving(bundle("sample", "int8"), Limits(waiting=8, tokens=16, seconds=60, body=65536)) as crowded:
        body = {"model": crowded.model, "messages": QUESTION, "temperature": 0, "max_tokens": 8}
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda _: ask(crowded, body), range(50)))
        statuses = {status for status, _, _ in answers}
        assert statuses <= {200, 429}
        assert sum(status == 200 for status, _, _ in answers) >= 9
        for status, headers, raw in answers:
            if status == 429:
                assert int(headers["retry-after"]) >= 1
                assert json.loads(raw)["error"]["code"] == "queue_full"
        texts = {json.loads(raw)["choices"][0]["message"]["content"] for status, _, raw in answers if status == 200}
        assert len(texts) == 1
        assert ask(crowded, body)[0] == 200  # and it goes on


def test_a_client_that_hangs_up_frees_the_engine_within_a_token(bundle):
    folder, called = bundle("sample", "int8"), list[float]()

    def count(piece: Piece) -> None:
        called.append(time.monotonic())
        time.sleep(0.05)  # an answer that lasts

    with serving(folder, session=paced(folder, count)) as left:
        connection = http.client.HTTPConnection(left.url.removeprefix("http://"), timeout=60)
        body = {"model": left.model, "messages": QUESTION, "temperature": 2.0, "seed": 1, "stream": True}
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array", "minItems": 500}}}
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(body | {"response_format": form}),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        answer = connection.getresponse()
        answer.read(200)
        until(lambda: len(called) > 5)
        answer.close()
        connection.close()
        gone = time.monotonic()
        until(lambda: left.server.queue._running is None)
        assert sum(at > gone for at in called) <= 1


def test_an_answer_that_takes_too_long_is_ended(bundle):
    folder, limits = bundle("sample", "int8"), Limits(waiting=2, tokens=512, seconds=0.5, body=65536)
    with serving(folder, limits, session=paced(folder, Pause(0.2))) as slow:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array", "minItems": 500}}}
        body = {"model": slow.model, "messages": QUESTION, "response_format": form}
        begun = time.monotonic()
        status, _, raw = ask(slow, body)
        assert time.monotonic() - begun < 5
        assert status in (200, 503)
        if status == 200:
            assert json.loads(raw)["choices"][0]["finish_reason"] != "stop"


def test_closing_ends_what_runs_and_refuses_what_waits(bundle):
    folder = bundle("sample", "int8")
    with serving(folder, session=paced(folder, Pause(0.05))) as closed:
        found: list[int] = []
        body = {"model": closed.model, "messages": QUESTION, "temperature": 0}
        threads = [threading.Thread(target=lambda: found.append(ask(closed, body)[0])) for _ in range(3)]
        for one in threads:
            one.start()
        until(lambda: closed.server.queue._running is not None)
    for one in threads:
        one.join(10)
    assert len(found) == 3
    assert set(found) <= {200, 503}
