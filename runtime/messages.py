"""Messages of a chat, checked and brought to the form that templates read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import GemmaError
from .tokenizer import Message

ROLES = ("system", "developer", "user", "assistant", "tool")


def checked(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages with arguments decoded.  Raises GemmaError for what no template can render."""
    if not messages:
        raise GemmaError("no messages", 'give at least {"role": "user", "content": ...}')
    made = [one_message(index, message) for index, message in enumerate(messages)]
    for index, message in enumerate(made):
        before = made[index - 1]["role"] if index else ""
        if message["role"] == "tool" and before not in ("assistant", "tool"):
            raise GemmaError(
                f"message {index}: a tool's response without a call before it", "keep the assistant's call"
            )
    if made[-1]["role"] == "assistant" and made[-1].get("tool_calls"):
        raise GemmaError("the last message calls tools that have not answered", 'add a message of the role "tool"')
    return made


def with_responses(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Responses that are mappings moved into the message whose calls they answer.

    Released templates write {key:value} for them there only; in a message of its own a mapping is an error.
    """
    made: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        run = run_of_tools(messages, index) if message["role"] == "tool" else ()
        if not any(isinstance(other["content"], Mapping) for other in run):
            made.append(message)
        else:
            responses = made[-1].get("tool_responses", [])
            one = {"name": called_name(made[-1], message), "response": message["content"]}
            made[-1] = {**made[-1], "tool_responses": [*responses, one]}
    return made


def run_of_tools(messages: Sequence[dict[str, Any]], index: int) -> Sequence[dict[str, Any]]:
    """The messages around one of the role tool that answer the same message."""
    first = last = index
    while messages[first - 1]["role"] == "tool":
        first -= 1
    while last + 1 < len(messages) and messages[last + 1]["role"] == "tool":
        last += 1
    return messages[first : last + 1]


def called_name(message: Mapping[str, Any], response: Mapping[str, Any]) -> str:
    for call in message.get("tool_calls") or ():
        if response.get("tool_call_id") is not None and call.get("id") == response["tool_call_id"]:
            return str(call["function"]["name"])
    return str(response.get("name") or "unknown")


def one_message(index: int, message: Message) -> dict[str, Any]:
    role = message.get("role")
    if role not in ROLES:
        raise GemmaError(f"message {index}: the role {role!r} is not one of {', '.join(ROLES)}", "correct the role")
    made = dict(message)
    check_content(index, made)
    if made.get("tool_calls"):
        made["tool_calls"] = [decoded(index, call) for call in made["tool_calls"]]
    return made


def check_content(index: int, message: dict[str, Any]) -> None:
    content, role = message.get("content"), message["role"]
    if isinstance(content, str) or (role == "tool" and isinstance(content, Mapping)):
        return
    if content is None and role == "assistant":
        return
    if not isinstance(content, Sequence):
        raise GemmaError(
            f"message {index}: the content {content!r:.40} is not text", "give a string, or a list of parts"
        )
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else part
        if kind != "text" or not isinstance(part.get("text"), str):
            raise GemmaError(
                f"message {index}: a part of the kind {kind!r:.40}, bundles read text only", "leave it out"
            )


def decoded(index: int, call: Any) -> dict[str, Any]:
    """A call whose arguments are a mapping; OpenAI's clients send them as a string of JSON."""
    try:
        function = dict(call["function"])
        arguments = function.get("arguments") or {}
        function["arguments"] = json.loads(arguments) if isinstance(arguments, str) else arguments
        name = function["name"]
    except (TypeError, KeyError, ValueError, RecursionError) as error:
        raise GemmaError(
            f"message {index}: {call!r:.80} is not a tool call",
            'give {"function": {"name": ..., "arguments": {...}}}',
        ) from error
    if not isinstance(name, str) or not isinstance(function["arguments"], Mapping):
        raise GemmaError(f"message {index}: the arguments of {name!r:.40} are not an object", "give a mapping")
    return {**call, "function": function}
