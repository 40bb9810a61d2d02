"""The body of a chat completion, checked: what can not be done is refused, never ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from .sampler import Sampling
from .serve_errors import Refusal
from .structured import JsonSchema, ResponseFormat

BUDGETS = {"none": 0, "minimal": 64, "low": 256, "medium": 1024, "high": None}  # tokens of a thought
STOPS, STOP_LENGTH = 4, 256
# Fields that ask for nothing with these values; clients send them.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
}
LABELS = ("user", "metadata", "safety_identifier")  # name who asks, and change nothing
MESSAGE_FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning", "reasoning_content")


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool = False


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
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0)] | None = None
    seed: int | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high"] = "none"


@dataclass(frozen=True)
class Asked:
    """One answer that is wanted, in the terms of `Session.chat`."""

    messages: Sequence[Mapping[str, Any]]
    sampling: Sampling
    limit: int
    tools: Sequence[Mapping[str, Any]]
    tool_choice: str
    parallel: bool
    thinking: bool
    budget: int | None
    response_format: ResponseFormat | None
    stops: Sequence[str]
    stream: bool
    include_usage: bool


def asked(raw: bytes, model: str, defaults: Sampling, most: int) -> Asked:
    """Raises Refusal for a body that is no request for this model, or asks for more than `most` tokens."""
    body = decoded(raw)
    if body.model != model:
        raise Refusal(
            404, f"there is no model {body.model!r:.80}", f"it is {model!r}", code="model_not_found", param="model"
        )
    tools = [known_tool(index, tool) for index, tool in enumerate(body.tools)]
    budget = BUDGETS[body.reasoning_effort]
    return Asked(
        messages=[message(index, one) for index, one in enumerate(body.messages)],
        sampling=sampling(body, defaults),
        limit=limit(body, most),
        tools=tools,
        tool_choice=tool_choice(body.tool_choice),
        parallel=body.parallel_tool_calls,
        thinking=body.reasoning_effort != "none",
        budget=budget or None,
        response_format=response_format(body.response_format),
        stops=stops(body.stop),
        stream=body.stream,
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
    )


def decoded(raw: bytes) -> Body:
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON: {error}", "send an object") from error
    if not isinstance(found, dict):
        raise Refusal(400, "the body is not an object of JSON", 'send {"model": ..., "messages": [...]}')
    given = {name: value for name, value in found.items() if value is not None}
    for name in given.keys() - set(Body.__struct_fields__) - set(LABELS):
        if name not in NEUTRAL or not any(same(given[name], value) for value in NEUTRAL[name]):
            refuse(name, f"{name} {given[name]!r:.40} is not supported")
    if "stream_options" in given and not given.get("stream"):
        refuse("stream_options", "stream_options without stream: true has nothing to apply to")
    try:
        return msgspec.convert(given, Body)
    except msgspec.ValidationError as error:
        where = re.search(r"\$\.(\w+)", str(error))
        raise Refusal(400, str(error), "correct the field", param=where[1] if where else "") from error


def same(a: Any, b: Any) -> bool:
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def refuse(param: str, message: str, hint: str = "leave it out") -> None:
    raise Refusal(400, message, hint, code="unsupported_parameter", param=param)


def message(index: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """A message without what clients send empty; a thought under the name that `Session.chat` knows."""
    made = {name: value for name, value in given.items() if name == "content" or value not in (None, [], "")}
    for name in made.keys() - set(MESSAGE_FIELDS):
        refuse(f"messages[{index}].{name}", f"the field {name!r:.40} of message {index} is not supported")
    if "reasoning_content" in made:
        made["reasoning"] = made.pop("reasoning_content")
    for name in ("name", "tool_call_id", "reasoning"):
        if not isinstance(made.get(name, ""), str):
            refuse(f"messages[{index}].{name}", f"{name} of message {index} is not text", "give a string")
    if not isinstance(made.get("tool_calls", []), list):
        refuse(f"messages[{index}].tool_calls", f"tool_calls of message {index} is not a list", "give a list")
    return made


def sampling(body: Body, defaults: Sampling) -> Sampling:
    return Sampling(
        defaults.temperature if body.temperature is None else body.temperature,
        defaults.top_k if body.top_k is None else body.top_k,
        defaults.top_p if body.top_p is None else body.top_p,
        body.seed,
    )


def limit(body: Body, most: int) -> int:
    """max_tokens is the older name of max_completion_tokens."""
    given = {body.max_tokens, body.max_completion_tokens} - {None}
    if len(given) > 1:
        refuse("max_tokens", f"max_tokens {body.max_tokens} and max_completion_tokens {body.max_completion_tokens}")
    wanted = next(iter(given), None) or most
    if wanted > most:
        refuse("max_completion_tokens", f"{wanted} tokens, this server gives {most} at most", "ask for fewer")
    return wanted


def known_tool(index: int, tool: Mapping[str, Any]) -> dict[str, Any]:
    """The function of a tool; Session.chat checks what is in it."""
    if tool.get("type") != "function" or not isinstance(tool.get("function"), dict):
        refuse(f"tools[{index}]", f"tool {index} is not a function", 'give {"type": "function", "function": {...}}')
    function = dict(tool["function"])
    for name in function.keys() - {"name", "description", "parameters", "strict"}:
        refuse(f"tools[{index}].function.{name}", f"the field {name!r:.40} of tool {index} is not supported")
    return {name: value for name, value in function.items() if value is not None}


def tool_choice(given: str | Mapping[str, Any]) -> str:
    """auto, none, required, or a name."""
    if isinstance(given, str):
        if given not in ("auto", "none", "required"):
            refuse("tool_choice", f"tool_choice {given!r:.40}", 'give "auto", "none", "required" or a function')
        return given
    function = given.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    if given.get("type") != "function" or not isinstance(name, str):
        refuse("tool_choice", "tool_choice names no function", 'give {"type": "function", "function": {"name": ...}}')
    return str(name)


def response_format(given: Mapping[str, Any]) -> ResponseFormat | None:
    kind = given.get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return JsonSchema({"type": "object"})
    inner = given.get("json_schema")
    if kind != "json_schema" or not isinstance(inner, Mapping) or not isinstance(inner.get("schema"), Mapping):
        refuse(
            "response_format",
            f"response_format of the type {kind!r:.40}, without a schema or unknown",
            'give {"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}, json_object or text',
        )
    return JsonSchema(given["json_schema"]["schema"])


def stops(given: str | Sequence[str]) -> list[str]:
    words = [given] if isinstance(given, str) else list(given)
    if len(words) > STOPS or not all(0 < len(word) <= STOP_LENGTH for word in words):
        refuse("stop", f"stop has {len(words)} texts", f"give {STOPS} at most, of 1 to {STOP_LENGTH} characters")
    return words
