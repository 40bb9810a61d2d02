"""Requests while another is answered: streams that say they live, refusals that do not wait."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Sequence

import openai
import pytest

from runtime.language.tokenizer import Message
from runtime.serve.app import Limits
from runtime.session.model import Model
from runtime.session.options import Options
from runtime.session.session import Prepared, Session
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

OPTIONS = Options()
PATIENT = Limits(waiting=4, tokens=512, seconds=60, body=65536, silence=0.1)


@pytest.fixture
def slow(bundle):
    """A server whose answers last, 50 ms a token."""
    folder = bundle("sample", "int8")
    with serving(folder, PATIENT, session=paced(folder, Pause(0.05))) as served:
        yield served


LASTING = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array", "minItems": 500}}}


def lasting(served):
    """A connection whose answer has begun."""
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=60)
    body = {"model": served.model, "messages": QUESTION, "stream": True, "response_format": LASTING}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    connection.getresponse().read(100)
    return connection


def test_a_stream_that_waits_says_so_and_clients_read_over_it(slow):
    before = lasting(slow)
    connection = http.client.HTTPConnection(slow.url.removeprefix("http://"), timeout=60)
    body = {"model": slow.model, "messages": QUESTION, "temperature": 0, "stream": True}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("content-type")) == (200, "text/event-stream; charset=utf-8")
    assert [answer.readline() for _ in range(4)] == [b": waiting\n", b"\n"] * 2
    before.close()
    rest = answer.read().decode()
    assert rest.endswith("data: [DONE]\n\n")
    assert '"role":"assistant"' in rest
    other = lasting(slow)
    asked = {"model": slow.model, "messages": QUESTION, "temperature": 0, "stream": True}
    threading.Timer(0.5, other.close).start()
    pieces = list(
        openai.OpenAI(base_url=f"{slow.url}/v1", api_key="none", max_retries=0).chat.completions.create(**asked)
    )
    assert "Oslo" in "".join(piece.choices[0].delta.content or "" for piece in pieces)


def test_a_long_prompt_that_is_read_says_so(bundle):
    folder = bundle("sample", "int8")
    reading = paced(folder, lambda piece: time.sleep(0.4 if len(piece.ids) > 1 else 0.05))
    with serving(folder, PATIENT, session=reading) as slow:
        status, _, raw = ask(slow, {"model": slow.model, "messages": QUESTION, "temperature": 0, "stream": True})
    assert status == 200
    assert raw.startswith(b": waiting\n\n: waiting\n\n")
    assert raw.count(b"data: [DONE]") == 1


def test_what_is_refused_is_refused_while_another_answer_runs(slow):
    before = lasting(slow)
    for fields, code in (
        ({"messages": [{"role": "user", "content": "long " * 5000}]}, "context_length_exceeded"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}}, None),
    ):
        status, _, raw = ask(slow, {"model": slow.model, "messages": QUESTION, "stream": True} | fields)
        assert (status, json.loads(raw)["error"]["code"]) == (400, code)
    assert slow.server.queue._running is not None
    before.close()


def test_a_request_that_is_cancelled_while_it_is_read_frees_its_place(bundle):
    folder, leave = bundle("sample", "int8"), threading.Event()

    class Held(Session):
        def prepare(self, messages: Sequence[Message], options: Options = OPTIONS) -> Prepared:
            assert leave.wait(10)
            return super().prepare(messages, options)

    model = Model.open(folder, threads=1)
    limits = Limits(waiting=1, tokens=16, seconds=0.3, body=65536)
    with serving(folder, limits, session=Held(model, model.weights.engine())) as busy:
        body = {"model": busy.model, "messages": QUESTION, "temperature": 0, "max_tokens": 2}
        assert [ask(busy, body)[0] for _ in range(2)] == [503, 503], "its time is over while it is read"
        leave.set()
        until(lambda: busy.server.queue._unfinished == 0)
        assert ask(busy, body)[0] == 200
