"""How an answer is made: one value, whoever asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..bundle.manifest import Generation
from ..calls.tool_schema import Tool
from ..engine.sampler import Sampling
from ..errors import RequestError
from ..language.answer_forms import Choice, JsonSchema, Regex, ResponseFormat, is_texts


@dataclass(frozen=True)
class Options:
    """None takes what the bundle says, or sets no limit.

    temperature, top_k, top_p, seed: how tokens are drawn; a temperature of 0 is greedy, the same seed draws the same
    max_new_tokens: the answer ends after so many tokens, thoughts and calls among them
    stop: texts at which the answer ends; they are no part of it
    tools: JSON schemas or Python functions that the model may call; it stops for their responses, which go into the
        messages after `assistant_message(events)`
    tool_choice: "auto", "none" for no calls, "required" for a call, or the name of the tool to call; calls that are
        asked for are constrained
    one_call: the answer ends behind its first call
    thinking: the model thinks before it answers; thinking_budget: the thought is closed after so many tokens
    response_format: what the text must be; thoughts and calls are free
    constrain_calls: only declared names, and arguments by their schemas.  A tool that is declared with
        "strict": True asks for the same; those beside it are constrained where their schemas can be held
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    max_new_tokens: int | None = None
    stop: Sequence[str] = ()
    tools: Sequence[Tool] = ()
    tool_choice: str = "auto"
    one_call: bool = False
    thinking: bool = False
    thinking_budget: int | None = None
    response_format: ResponseFormat | None = None
    constrain_calls: bool = False

    @property
    def must_call(self) -> bool:
        return self.tool_choice not in ("auto", "none")

    def sampling(self, generation: Generation) -> Sampling:
        """What is asked for, and where nothing is, what the checkpoint's generation_config says.

        Raises RequestError for a value out of range.
        """
        temperature = generation.temperature if generation.do_sample else 0.0
        return Sampling(
            temperature if self.temperature is None else self.temperature,
            generation.top_k if self.top_k is None else self.top_k,
            generation.top_p if self.top_p is None else self.top_p,
            self.seed,
        )

    def check(self) -> None:
        """Raises RequestError for a value of another type, and for a limit, a budget or a stop text that none has."""
        for name, (kinds, allowed) in ALLOWED.items():
            check_kind(name, getattr(self, name), kinds, allowed)
        check_limit(self.max_new_tokens)
        if self.thinking_budget is not None and (self.thinking_budget < 0 or not self.thinking):
            raise RequestError(
                f"thinking budget {self.thinking_budget}: thinking must be on, and the budget 0 or more", "leave it out"
            )
        if not is_texts(self.stop) or not all(self.stop):
            raise RequestError(
                f"stop texts must be a list of texts, none empty, not {self.stop!r:.40}", "leave them out"
            )


WHOLE, NUMBER, SWITCH = (int,), (int, float), (bool,)
# What an option may be besides None; its range is checked where it is used.
ALLOWED: dict[str, tuple[tuple[type, ...], str]] = {
    "temperature": (NUMBER, "a number from 0 up"),
    "top_k": (WHOLE, "a whole number from 0 up"),
    "top_p": (NUMBER, "a number above 0 and at most 1"),
    "seed": (WHOLE, "a whole number"),
    "max_new_tokens": (WHOLE, "a whole number from 1 up"),
    "thinking": (SWITCH, "True or False"),
    "thinking_budget": (WHOLE, "a whole number from 0 up"),
    "response_format": ((JsonSchema, Regex, Choice), "a Choice, a JsonSchema or a Regex"),
    "constrain_calls": (SWITCH, "True or False"),
    "tool_choice": ((str,), 'the name of a tool, "auto", "none" or "required"'),
}


def check_kind(name: str, value: object, kinds: tuple[type, ...], allowed: str) -> None:
    """Raises RequestError for a value of no such type; True and False are no numbers."""
    if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
        raise RequestError(f"{name} must be {allowed}, not {value!r:.40}", "correct it, or leave it out")


def check_limit(max_new_tokens: int | None) -> None:
    """Raises RequestError for a limit that lets no token through."""
    if max_new_tokens is not None and max_new_tokens < 1:
        raise RequestError(f"max new tokens must be at least 1, not {max_new_tokens}", "leave it out for no limit")
