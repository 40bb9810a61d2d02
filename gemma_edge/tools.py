"""Python functions that a model may call: checked, called, and answered for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from runtime.errors import RequestError
from runtime.language.events import End, Text, Thought, ToolCall

Function = Callable[..., object]


@dataclass(frozen=True)
class ToolResult:
    """A call was answered: `content`, a text or a mapping, is what the model reads.

    error: what the function raised, which `content` tells the model in words; None where it returned.
    """

    call: ToolCall
    content: str | dict[str, Any]
    error: Exception | None = None


Event = Text | Thought | ToolCall | ToolResult | End


def by_name(functions: Sequence[Function]) -> dict[str, Function]:
    """Functions by the names that the model calls them by.  Raises RequestError for what can not be called here."""
    if not isinstance(functions, Sequence) or isinstance(functions, str):
        raise RequestError(f"the tools {functions!r:.40} are not a list", "give a list of Python functions")
    for function in functions:
        if not callable(function):
            raise RequestError(f"the tool {function!r:.80} is not a function", "give Python functions")
        if inspect.iscoroutinefunction(function):
            raise RequestError(
                f"the tool {function.__name__} is asynchronous, and tools run in a thread", "give a plain function"
            )
    return {getattr(function, "__name__", ""): function for function in functions}


def answered(call: ToolCall, functions: Mapping[str, Function]) -> ToolResult:
    """Call the function that the model asks for.  What it raises is told to the model, and kept in the result."""
    if call.problem:
        return ToolResult(call, {"error": call.problem})
    try:
        return ToolResult(call, content_of(functions[call.name](**call.arguments)))
    except Exception as error:
        return ToolResult(call, {"error": f"{type(error).__name__}: {error}"}, error)


def content_of(result: object) -> str | dict[str, Any]:
    """What a function returned as a chat template reads it: text, or an object of JSON.

    Raises TypeError for what JSON does not have.
    """
    if isinstance(result, str):
        return result
    plain = msgspec.to_builtins(result, str_keys=True)
    return plain if isinstance(plain, dict) else {"result": plain}
