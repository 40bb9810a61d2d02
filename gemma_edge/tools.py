"""Python functions that a model may call: checked, called, and answered for."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from runtime.errors import RequestError
from runtime.language.events import End, Text, Thought, ToolCall
from runtime.language.whole_text import check_whole

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


def check_functions(functions: Sequence[Function]) -> None:
    """Raises RequestError for what can not be called here."""
    if not isinstance(functions, Sequence) or isinstance(functions, str | bytes):
        raise RequestError(f"the tools {functions!r:.40} are not a list", "give a list of Python functions")
    for function in functions:
        if not callable(function) or inspect.isclass(function):
            raise RequestError(f"the tool {function!r:.80} is not a function", "give Python functions")
        if inspect.iscoroutinefunction(function):
            raise RequestError(
                f"the tool {name_of(function)} is asynchronous, and tools run in a thread", "give a plain function"
            )


def name_of(function: Function) -> str:
    return getattr(function, "__name__", "")


def by_name(functions: Sequence[Function]) -> dict[str, Function]:
    """Functions by the names that the model calls them by."""
    return {name_of(function): function for function in functions}


def not_made(call: ToolCall, why: str) -> ToolResult:
    return ToolResult(call, {"error": why})


def answered(call: ToolCall, functions: Mapping[str, Function]) -> ToolResult:
    """Call the function that the model asks for.  What it raises is told to the model, and kept in the result."""
    if call.problem:
        return not_made(call, call.problem)
    try:
        return ToolResult(call, content_of(functions[call.name](**copy.deepcopy(call.arguments))))
    except Exception as error:
        return ToolResult(call, {"error": words_of(error)}, error)


def words_of(error: Exception) -> str:
    """An error in words that every tokenizer reads, also one that can not say what it is."""
    try:
        words = str(error)
    except Exception as broken:
        words = f"it has no text, for its __str__ raised {type(broken).__name__}"
    return f"{type(error).__name__}: {words}".encode("utf-8", "backslashreplace").decode()


def content_of(result: object) -> str | dict[str, Any]:
    """What a function returned as a chat template reads it: text, or an object of JSON; nothing of it is shared.

    Raises TypeError for what JSON does not have, and RequestError for text with half of a character.
    """
    plain = result if isinstance(result, str) else msgspec.to_builtins(result, str_keys=True)
    check_whole(plain, "what the function returned")
    return plain if isinstance(result, str) or isinstance(plain, dict) else {"result": plain}
