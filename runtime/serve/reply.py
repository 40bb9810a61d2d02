"""The events of an answer as OpenAI's chat completions: in pieces, or whole."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..language.events import End, Event, Text, Thought, ToolCall

FINISH = {"stop": "stop", "tool_calls": "tool_calls", "length": "length", "context": "length", "cancelled": "length"}


@dataclass
class Reply:
    """One chat completion.  Thoughts are `reasoning_content`, as other servers call them."""

    model: str
    counted: bool = False  # pieces have a place for the usage, which comes last
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    calls: int = 0

    def first(self) -> dict[str, Any]:
        return self._chunk({"role": "assistant", "content": ""})

    def chunk(self, event: Event) -> dict[str, Any]:
        if isinstance(event, Text):
            return self._chunk({"content": event.text})
        if isinstance(event, Thought):
            return self._chunk({"reasoning_content": event.text})
        if isinstance(event, ToolCall):
            return self._chunk({"tool_calls": [{"index": self.calls, **self._call(event)}]})
        return self._chunk({}, FINISH[event.stop])

    def counts(self, end: End) -> dict[str, Any]:
        """The last piece of a stream whose client wants its usage."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage(end), "timings": timings(end)}

    def whole(self, events: Sequence[Event]) -> dict[str, Any]:
        *said, end = events
        assert isinstance(end, End)
        calls = [self._call(event) for event in said if isinstance(event, ToolCall)]
        text = "".join(event.text for event in said if isinstance(event, Text))
        thought = "".join(event.text for event in said if isinstance(event, Thought))
        message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None}
        message |= {"reasoning_content": thought} if thought else {}
        message |= {"tool_calls": calls} if calls else {}
        choice = {"index": 0, "message": message, "finish_reason": FINISH[end.stop], "logprobs": None}
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": usage(end),
            "timings": timings(end),
        }

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        usage = {"usage": None} if self.counted else {}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **usage}

    def _call(self, call: ToolCall) -> dict[str, Any]:
        """Arguments as a string of JSON; of a call that nobody can read none, so that nobody carries it out."""
        self.calls += 1
        readable = call.arguments or not call.problem
        arguments = json.dumps(call.arguments, ensure_ascii=False) if readable else ""
        problem = {"problem": call.problem} if call.problem else {}
        function = {"name": call.name, "arguments": arguments}
        return {"id": f"call_{self.id[-24:]}_{self.calls}", "type": "function", "function": function, **problem}


def usage(end: End) -> dict[str, Any]:
    return {
        "prompt_tokens": end.prompt_tokens,
        "completion_tokens": end.new_tokens,
        "total_tokens": end.prompt_tokens + end.new_tokens,
        "prompt_tokens_details": {"cached_tokens": end.reused},
        "completion_tokens_details": {"reasoning_tokens": end.thought_tokens},
    }


def timings(end: End) -> dict[str, float]:
    return {
        "ttft_s": round(end.ttft_s, 4),
        "prefill_tok_s": round(end.prefill_tok_s, 2),
        "decode_tok_s": round(end.decode_tok_s, 2),
    }
