"""The body of a chat completion, checked: what would change the answer and can not be done is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from ..session.options import Options
from .fields import NOTED, SAID, check_neutral, refuse
from .format import response_format
from .refusal import Refusal

BUDGETS = {"none": 0, "minimal": 64, "low": 256, "medium": 1024, "high": None, "xhigh": None, "max": None}
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]  # budgets are tokens of a thought
STOPS, STOP_LENGTH = 4, 256
MESSAGE_FIELDS = frozenset(("role", "content", "name", "tool_calls", "tool_call_id", "reasoning", "reasoning_content"))
TOOL_FIELDS = ("name", "description", "parameters", "strict", "response")  # of its function; others tell models nothing
CALL_FIELDS = ("id", "type", "function")


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool = False
    include_obfuscation: bool = False  # padding against listeners, which changes no answer


class Reasoning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    effort: Effort | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    enabled: bool | None = None
    exclude: Literal[False] | None = None
    summary: str | None = None  # thoughts are given as they are


class TemplateSwitches(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    enable_thinking: bool | None = None


class Body(msgspec.Struct, frozen=True):
    model: str
    messages: list[dict[str, Any]]
    stream: bool = False
    stream_options: StreamOptions | None = None
    tools: list[dict[str, Any]] = []
    tool_choice: str | dict[str, Any] = "auto"
    parallel_tool_calls: bool = True
    response_format: dict[str, Any] = {}
    stop: str | list[str] = []
    max_tokens: Annotated[int, msgspec.Meta(ge=-1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=-1)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=-1)] | None = None
    seed: int | None = None
    reasoning_effort: Effort | None = None
    reasoning: Reasoning = Reasoning()
    enable_thinking: bool | None = None
    chat_template_kwargs: TemplateSwitches = TemplateSwitches()


@dataclass(frozen=True)
class ChatRequest:
    """One answer that a client wants."""

    messages: Sequence[Mapping[str, Any]]
    options: Options
    stream: bool
    include_usage: bool


def chat_request(raw: bytes, model: str, most: int) -> ChatRequest:
    """Raises Refusal for a body that is no request for this model.  An answer has `most` tokens at most."""
    body = decoded(raw)
    if body.model != model:
        raise Refusal(
            404,
            f"there is no model {body.model!r:.80}",
            f"this server has the model {model!r}",
            code="model_not_found",
            param="model",
        )
    messages = [message(index, fields) for index, fields in enumerate(body.messages)]
    include_usage = bool(body.stream_options and body.stream_options.include_usage)
    return ChatRequest(messages, options(body, most), body.stream, include_usage)


def options(body: Body, most: int) -> Options:
    """Raises Refusal for a field that no answer can have."""
    tools = [known_tool(index, tool) for index, tool in enumerate(body.tools)]
    thinks, budget = thinking(body)
    return Options(
        temperature=body.temperature,
        top_k=None if body.top_k is None else max(body.top_k, 0),  # -1: all, as 0
        top_p=body.top_p,
        seed=body.seed,
        max_new_tokens=limit(body, most),
        stop=stops(body.stop),
        tools=tools,
        tool_choice=tool_choice(body.tool_choice),
        one_call=not body.parallel_tool_calls,
        thinking=thinks,
        thinking_budget=budget,
        response_format=response_format(body.response_format),
    )


def decoded(raw: bytes) -> Body:
    try:
        fields = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {error}", "send an object") from error
    if not isinstance(fields, dict):
        raise Refusal(400, "the body is not a JSON object", 'send {"model": ..., "messages": [...]}')
    present = {name: value for name, value in fields.items() if value is not None}
    check_neutral({name: value for name, value in present.items() if name not in Body.__struct_fields__})
    if "stream_options" in present and not present.get("stream"):
        refuse("stream_options", "stream_options without stream: true has nothing to apply to")
    try:
        return msgspec.convert(present, Body)
    except msgspec.ValidationError as error:
        where = re.search(r"\$\.(\w+)", str(error))
        raise Refusal(400, str(error), "correct the field", param=where[1] if where else "") from error


def message(index: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A message without what clients send empty or back; a thought under the name that `Session.chat` knows."""
    ignored = fields.keys() - MESSAGE_FIELDS - SAID if fields.get("role") == "assistant" else NOTED
    kept = {
        name: value
        for name, value in fields.items()
        if name == "content" or (name not in ignored and value not in (None, [], "", {}))
    }
    for name in sorted(kept.keys() - MESSAGE_FIELDS):
        refuse(f"messages[{index}].{name:.40}", f"the field {name!r:.40} of message {index} is not supported")
    if "reasoning_content" in kept:
        kept["reasoning"] = kept.pop("reasoning_content")
    for name in ("name", "tool_call_id", "reasoning"):
        if not isinstance(kept.get(name, ""), str):
            refuse(f"messages[{index}].{name}", f"{name} of message {index} is not text", "give a string")
    if "tool_calls" in kept:
        kept["tool_calls"] = tool_calls(index, kept["tool_calls"])
    return kept


def tool_calls(index: int, calls: Any) -> list[Any]:
    """Calls without what clients add: their place, or what they noted."""
    if not isinstance(calls, list):
        refuse(f"messages[{index}].tool_calls", f"tool_calls of message {index} is not a list", "give a list")
    return [
        {name: call[name] for name in CALL_FIELDS if name in call} if isinstance(call, dict) else call for call in calls
    ]


def thinking(body: Body) -> tuple[bool, int | None]:
    """Whether the model thinks, and tokens of its thought: a switch says whether, an effort or a number how long."""
    reasoning = body.reasoning
    switches = {body.enable_thinking, body.chat_template_kwargs.enable_thinking, reasoning.enabled} - {None}
    efforts = {body.reasoning_effort, reasoning.effort} - {None}
    if len(switches) > 1 or len(efforts) > 1:
        refuse("reasoning", "the request asks for thoughts in two ways that differ", "leave one out")
    effort = next(iter(efforts), None)
    budget = reasoning.max_tokens or BUDGETS[effort or "high"] or None
    wanted = effort not in (None, "none") or (effort is None and reasoning.max_tokens is not None)
    on = bool(next(iter(switches), wanted))
    return on, budget if on else None


def limit(body: Body, most: int) -> int:
    """Tokens of an answer, `most` at most; -1 asks for as many.  max_tokens is the older name."""
    limits = {"max_completion_tokens": body.max_completion_tokens, "max_tokens": body.max_tokens}
    numbers = {name: most if number == -1 else number for name, number in limits.items() if number is not None}
    for name, number in numbers.items():
        if number == 0:
            refuse(name, f"{name} 0 asks for no answer", "give a number from 1 up, or -1 for as many as there may be")
    if len(set(numbers.values())) > 1:
        refuse("max_tokens", f"max_tokens {body.max_tokens} and max_completion_tokens {body.max_completion_tokens}")
    return min([most, *numbers.values()])


def known_tool(index: int, tool: Mapping[str, Any]) -> dict[str, Any]:
    """The function of a tool, of it what templates and grammars read; Session.chat checks what is in it."""
    if tool.get("type") != "function" or not isinstance(tool.get("function"), dict):
        refuse(f"tools[{index}]", f"tool {index} is not a function", 'give {"type": "function", "function": {...}}')
    function = {"strict": tool.get("strict"), **tool["function"]}
    return {name: function[name] for name in TOOL_FIELDS if function.get(name) is not None}


def tool_choice(choice: str | Mapping[str, Any]) -> str:
    """auto, none, required, or a name."""
    if isinstance(choice, str):
        if choice not in ("auto", "none", "required"):
            refuse("tool_choice", f"tool_choice {choice!r:.40}", 'give "auto", "none", "required" or a function')
        return choice
    function = choice.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    if choice.get("type") != "function" or not isinstance(name, str):
        refuse("tool_choice", "tool_choice names no function", 'give {"type": "function", "function": {"name": ...}}')
    return str(name)


def stops(texts: str | Sequence[str]) -> list[str]:
    words = [texts] if isinstance(texts, str) else list(texts)
    if len(words) > STOPS or not all(0 < len(word) <= STOP_LENGTH for word in words):
        refuse("stop", f"stop has {len(words)} texts", f"give {STOPS} at most, of 1 to {STOP_LENGTH} characters")
    return words
