"""Messages of a chat, checked and brought to the form that templates read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from ..errors import RequestError
from .tokenizer import Message
from .whole_text import check_whole

ID = str | int
ROLES = ("system", "developer", "user", "assistant", "tool")


def checked(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages with arguments decoded.  Raises GemmaError for what no template can render."""
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise RequestError(f"messages must be a list, not {messages!r:.40}", 'give [{"role": "user", "content": ...}]')
    if not messages:
        raise RequestError("there are no messages", 'give at least {"role": "user", "content": ...}')
    checked = [one_message(index, message) for index, message in enumerate(messages)]
    for index, message in enumerate(checked):
        before = checked[index - 1]["role"] if index else ""
        if message["role"] == "tool" and before not in ("assistant", "tool"):
            raise RequestError(
                f"message {index} is a tool's response, but no call stands before it",
                "keep the assistant's message that made the call",
            )
    if checked[-1]["role"] == "assistant" and checked[-1].get("tool_calls"):
        raise RequestError("the last message calls tools that have not answered", 'add a message of the role "tool"')
    return checked


def with_responses(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Responses that are mappings moved into the message whose calls they answer.

    Released templates write {key:value} for them there only; in a message of its own a mapping is an error.
    """
    joined: list[dict[str, Any]] = []
    for of_tools, group in groupby(messages, lambda message: message["role"] == "tool"):
        run = list(group)
        if not of_tools or not any(isinstance(message["content"], Mapping) for message in run):
            joined += run
        else:
            joined[-1] = {
                **joined[-1],
                "tool_responses": [*joined[-1].get("tool_responses", ()), *responses(joined[-1], run)],
            }
    return joined


def responses(caller: Mapping[str, Any], run: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the tools answered, by the names that were called."""
    calls = reversed(caller.get("tool_calls") or ())  # of equal ids the first counts
    names = {call["id"]: call["function"]["name"] for call in calls if isinstance(call.get("id"), ID)}
    return [
        {"name": str(called(names, message) or message.get("name") or "unknown"), "response": message["content"]}
        for message in run
    ]


def called(names: Mapping[str | int, str], message: Mapping[str, Any]) -> str | None:
    key = message.get("tool_call_id")
    return names.get(key) if isinstance(key, ID) else None


def one_message(index: int, message: Message) -> dict[str, Any]:
    check_whole(message, f"message {index}")
    if not isinstance(message, Mapping):
        raise RequestError(
            f"message {index} must be an object, not {message!r:.40}", 'give {"role": ..., "content": ...}'
        )
    role = message.get("role")
    if role not in ROLES:
        raise RequestError(
            f"message {index}: the role must be one of {', '.join(ROLES)}, not {role!r}", "correct the role"
        )
    checked = dict(message)
    check_content(index, checked)
    if calls := checked.get("tool_calls"):
        if not isinstance(calls, Sequence) or isinstance(calls, str):
            raise RequestError(f"message {index}: tool_calls must be a list, not {calls!r:.40}", "give a list of calls")
        checked["tool_calls"] = [decoded(index, call) for call in calls]
    return checked


def check_content(index: int, message: dict[str, Any]) -> None:
    content, role = message.get("content"), message["role"]
    if isinstance(content, str) or (role == "tool" and isinstance(content, Mapping)):
        return
    if content is None and role == "assistant":
        return
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise RequestError(
            f"message {index}: the content must be text, not {content!r:.40}", "give a string, or a list of parts"
        )
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else part
        if kind != "text" or not isinstance(part.get("text"), str):
            raise RequestError(
                f"message {index} has a part of the kind {kind!r:.40}, but bundles read only text", "leave it out"
            )


def decoded(index: int, call: Any) -> dict[str, Any]:
    """A call whose arguments are a mapping; OpenAI's clients send them as a string of JSON."""
    try:
        function = dict(call["function"])
        arguments = function.get("arguments") or {}
        function["arguments"] = json.loads(arguments) if isinstance(arguments, str) else arguments
        name = function["name"]
    except (TypeError, KeyError, ValueError, RecursionError) as error:
        raise RequestError(
            f"message {index}: {call!r:.80} is not a tool call",
            'give {"function": {"name": ..., "arguments": {...}}}',
        ) from error
    if not isinstance(name, str) or not isinstance(function["arguments"], Mapping):
        raise RequestError(f"message {index}: the arguments of {name!r:.40} must be an object", "give a mapping")
    check_whole(function["arguments"], f"message {index}: the arguments of {name!r:.40}")  # a string hid its escapes
    return {**call, "function": function}
