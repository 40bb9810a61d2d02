"""What a session streams: tokens of a raw prompt, or the parts of an answer in a chat."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Stop = Literal["stop", "tool_calls", "length", "context", "cancelled"]


@dataclass(frozen=True)
class Token:
    id: int
    text: str  # what this token adds; empty while a character is incomplete


@dataclass(frozen=True)
class Text:
    """More of the answer."""

    text: str


@dataclass(frozen=True)
class Thought:
    """More of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """The model asks for a function.

    Where `problem` is not empty the call can not be made, and the host answers with it:
    `tool_message(call, {"error": call.problem})`.
    """

    id: str
    name: str
    arguments: dict[str, Any]
    problem: str = ""


@dataclass(frozen=True)
class End:
    """Why and how an answer ended.  `reused` prompt tokens were in the caches already."""

    stop: Stop
    prompt_tokens: int
    reused: int
    new_tokens: int
    ttft_s: float
    prefill_tok_s: float
    decode_tok_s: float
    thought_tokens: int = 0


Event = Text | Thought | ToolCall | End


def assistant_message(events: Iterable[Event]) -> dict[str, Any]:
    """The events of an answer as the message that goes into the history."""
    said, thought, calls = "", "", []
    for event in events:
        if isinstance(event, Text):
            said += event.text
        elif isinstance(event, Thought):
            thought += event.text
        elif isinstance(event, ToolCall):
            function = {"name": event.name, "arguments": event.arguments}
            calls.append({"id": event.id, "type": "function", "function": function})
    message: dict[str, Any] = {"role": "assistant", "content": said}
    if thought:
        message["reasoning"] = thought
    if calls:
        message["tool_calls"] = calls
    return message


def tool_message(call: ToolCall, content: Any) -> dict[str, Any]:
    """What a function gave, text or a mapping, as the message that answers a call."""
    return {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": content}
