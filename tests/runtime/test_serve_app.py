"""The server, asked by OpenAI's own client."""

from __future__ import annotations

import openai
import pytest
from serving import serving

ASKED = [{"role": "user", "content": "What is the capital of Norway?"}]


@pytest.fixture(scope="module")
def served(bundle):
    with serving(bundle("sample", "int4-datafree")) as made:
        yield made


@pytest.fixture
def client(served):
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)


def test_a_whole_answer(client, served):
    made = client.chat.completions.create(model=served.model, messages=ASKED, temperature=0)
    assert made.choices[0].message.content == "The capital of Norway is Oslo."
    assert made.choices[0].finish_reason == "stop"


def test_a_streamed_answer(client, served):
    pieces = client.chat.completions.create(model=served.model, messages=ASKED, temperature=0, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "The capital of Norway is Oslo."


def test_an_unknown_field_is_refused(client, served):
    with pytest.raises(openai.BadRequestError, match="best_of 3 is not supported"):
        client.chat.completions.create(model=served.model, messages=ASKED, extra_body={"best_of": 3})
