"""Events as OpenAI's chat completions."""

import json

from runtime.language.events import End, Event, Text, Thought, ToolCall
from runtime.serve.reply import Reply

END = End(
    stop="context", prompt_tokens=5, reused=2, new_tokens=3, ttft_s=0.1, prefill_tok_s=30, decode_tok_s=9,
    thought_tokens=1,
)  # fmt: skip


def test_a_whole_answer():
    said: list[Event] = [
        Thought("Hm."),
        Text("a"),
        Text("b"),
        ToolCall("1", "f", {"é": 1}),
        ToolCall("2", "g", {}, "not JSON"),
        END,
    ]
    found = Reply("m").whole(said)
    message = found["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("ab", "Hm.")
    first, second = message["tool_calls"]
    assert json.loads(first["function"]["arguments"]) == {"é": 1}
    assert (second["function"]["arguments"], second["problem"]) == ("", "not JSON")
    assert first["id"] != second["id"]
    assert found["choices"][0]["finish_reason"] == "length"
    assert found["usage"]["total_tokens"] == 8
    assert found["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert found["usage"]["completion_tokens_details"] == {"reasoning_tokens": 1}


def test_content_is_null_only_beside_calls():
    assert Reply("m").whole([END])["choices"][0]["message"]["content"] == ""
    assert Reply("m").whole([ToolCall("1", "f", {}), END])["choices"][0]["message"]["content"] is None


def test_pieces():
    reply = Reply("m", counted=True)
    call = ToolCall("1", "f", {})
    events: list[Event] = [Thought("Hm."), Text("a"), call, call, END]
    pieces = [reply.first(), *map(reply.chunk, events)]
    deltas = [piece["choices"][0]["delta"] for piece in pieces]
    assert deltas[:3] == [{"role": "assistant", "content": ""}, {"reasoning_content": "Hm."}, {"content": "a"}]
    assert [delta["tool_calls"][0]["index"] for delta in deltas[3:5]] == [0, 1]
    assert [piece["choices"][0]["finish_reason"] for piece in pieces] == [None] * 5 + ["length"]
    assert all(piece["usage"] is None for piece in pieces)
    assert reply.counts(END)["usage"]["completion_tokens"] == 3
    assert len({piece["id"] for piece in pieces}) == 1
