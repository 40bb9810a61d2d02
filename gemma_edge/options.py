"""How an answer is given: the keyword arguments of `ask` and `say`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TypedDict

from runtime.errors import RequestError
from runtime.language.answer_forms import ResponseFormat


class Options(TypedDict, total=False):
    """What is left out is as the checkpoint recommends, or without a limit.

    temperature: 0 always takes the likeliest token; top_k, top_p: draw from the likeliest only
    seed: the same seed draws the same tokens
    max_new_tokens: the answer ends after so many, those of all its rounds of calls together
    stop: texts at which the answer ends; they are no part of it
    thinking: the model thinks before it answers; thinking_budget: for so many tokens at most, in each round
    response_format: the form that the text must have
    tool_choice: "auto", "none", "required" or the name of the tool that must be called first
    constrain_calls: hold the arguments of calls to the types of the functions
    """

    temperature: float
    top_k: int
    top_p: float
    seed: int
    max_new_tokens: int
    stop: Sequence[str]
    thinking: bool
    thinking_budget: int
    response_format: ResponseFormat
    tool_choice: str
    constrain_calls: bool


def check_names(names: Iterable[str]) -> None:
    """Raises RequestError for a name that no option has."""
    known = list(Options.__annotations__)
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise RequestError(f"there is no option {name!r:.40}", hint)
