"""Where a chat template has a place for system messages, and what becomes of those that it has none for.

Released templates of Gemma 4 render a system message wherever it stands; those of Gemma 3 refuse a later
one, and others drop it without a word.  A template is a program: what it does is seen by what it renders.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import GemmaError, RequestError

Turns = list[dict[str, Any]]
SYSTEM = ("system", "developer")


def placed(turns: Turns, template: str, render: Callable[[Turns], str]) -> Turns:
    """The turns as given where the template renders every system message, else with all of them in one at the start.

    A template that knows no developer gets the role system.  Raises GemmaError if it refuses that too.
    """
    if "developer" not in template:
        turns = [{**turn, "role": "system"} if turn["role"] == "developer" else turn for turn in turns]
    if not any(turn["role"] in SYSTEM for turn in turns[1:]) or rendered(turns, render):
        return turns
    merged = in_one(turns)
    if not says_all(merged, render):
        raise RequestError("the chat template has no place for a system message", "put it into a message of the user")
    return merged


def rendered(turns: Turns, render: Callable[[Turns], str]) -> bool:
    try:
        return says_all(turns, render)
    except GemmaError:  # what else the template refuses shows when the system messages are in one
        return False


def says_all(turns: Turns, render: Callable[[Turns], str]) -> bool:
    """Whether every system message is in the prompt, seen by marks in place of their texts."""
    key = secrets.token_hex(8)
    places = {index for index, turn in enumerate(turns) if turn["role"] in SYSTEM}
    marked = [
        {**turn, "content": like(turn["content"], f"{key}x{index}x")} if index in places else turn
        for index, turn in enumerate(turns)
    ]
    return places == {int(index) for index in re.findall(rf"{key}x(\d+)x", render(marked))}


def like(content: Any, text: str) -> Any:
    """The text in the form of a content: a string, or a list of parts."""
    return text if isinstance(content, str) else [{"type": "text", "text": text}]


def in_one(turns: Turns) -> Turns:
    """All system messages as the first, a paragraph each."""
    first, *_ = texts = [turn for turn in turns if turn["role"] in SYSTEM]
    text = "\n\n".join(text_of(turn["content"]) for turn in texts)
    others = [turn for turn in turns if turn["role"] not in SYSTEM]
    return [{**first, "content": like(first["content"], text)}, *others]


def text_of(content: str | Sequence[Mapping[str, str]]) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
