"""What the chat template makes of each form of conversation, before the long part of an export begins.

A template that refuses a form does not know it.  One that renders it without a message's text loses what people say,
and is refused here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.errors import GemmaError
from runtime.language.tokenizer import Message, Tokenizer

NOT_KNOWN = "not known to the template"
RENDERED = "rendered"
QUESTION, ANSWER, AGAIN, SYSTEM = "Where does the quince grow?", "Beside the medlar.", "Is it tall?", "Be a gardener."
CALL = {"id": "call_1", "type": "function", "function": {"name": "find_plant", "arguments": {"plant": "loquat"}}}
TOOL = {
    "type": "function",
    "function": {
        "name": "find_plant",
        "description": "Finds the row of a plant",
        "parameters": {
            "type": "object",
            "properties": {"plant": {"type": "string", "description": "Its common name"}},
            "required": ["plant"],
        },
    },
}
USER = {"role": "user", "content": QUESTION}
SAID = {"role": "assistant", "content": ANSWER}


@dataclass(frozen=True)
class Form:
    """Messages with what else a template reads, and the texts that must come out, in their order.

    word: what a template that knows the form reads
    """

    messages: Sequence[Message]
    texts: Sequence[str]
    word: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


FORMS = {
    "question": Form([USER], [QUESTION]),
    "turns": Form([USER, SAID, {"role": "user", "content": AGAIN}], [QUESTION, ANSWER, AGAIN]),
    "system": Form([{"role": "system", "content": SYSTEM}, USER], [SYSTEM, QUESTION]),
    "thinking": Form([USER], [QUESTION], "enable_thinking", {"enable_thinking": True}),
    "tools": Form([USER], ["find_plant", "plant", QUESTION], "tools", {"tools": [TOOL]}),
    "tool call": Form(
        [
            USER,
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "name": "find_plant", "content": "row seven"},
        ],
        [QUESTION, "find_plant", "loquat", "row seven"],
        "tool_calls",
        {"tools": [TOOL]},
    ),
}


def rendered_forms(tokenizer: Tokenizer) -> dict[str, str]:
    """What became of each form.  Raises GemmaError for a template that refuses a question, or loses a text."""
    return {name: rendered(tokenizer, name, form) for name, form in FORMS.items()}


def rendered(tokenizer: Tokenizer, name: str, form: Form) -> str:
    if form.word and not tokenizer.reads(form.word):
        return NOT_KNOWN
    try:
        text = tokenizer.render(form.messages, **form.options)
    except GemmaError as error:
        if name == "question":
            raise
        return f"refused by the template: {error.message.removeprefix('the chat template failed: ')}"
    at = 0
    for expected in form.texts:
        place = text.find(expected, at)
        if place < 0:
            raise GemmaError(
                f"the chat template renders a conversation of the form {name!r} without {expected!r}, or out of order",
                "correct the chat template of the checkpoint",
            )
        at = place + len(expected)
    return RENDERED


def behind_answer(tokenizer: Tokenizer) -> str:
    """What the template writes between an answer and the next question; empty where it takes no second turn."""
    try:
        text = tokenizer.render(FORMS["turns"].messages)
    except GemmaError:  # rendered_forms says so
        return ""
    return text[text.index(ANSWER) + len(ANSWER) : text.rindex(AGAIN)]


def turn_end(tokenizer: Tokenizer) -> int | None:
    """The token that the template writes behind an answer; None if it writes none, or takes no second turn."""
    pieces = tokenizer.special.cut(behind_answer(tokenizer))
    return next((piece for piece in pieces if isinstance(piece, int)), None)


def print_endless(tokenizer: Tokenizer) -> None:
    """Say on standard error where a text and no token stands behind an answer, which then does not end there."""
    behind = behind_answer(tokenizer)
    if behind and turn_end(tokenizer) is None:
        print(
            f"note: the chat template ends an answer with the text {behind[:40]!r} and no token: answers "
            "do not end there, unless a client sends that text as `stop`",
            file=sys.stderr,
        )


def check_turn_end(tokenizer: Tokenizer, stop: Sequence[int]) -> None:
    """Raises GemmaError where what ends a turn would not end an answer."""
    end = turn_end(tokenizer)
    if end is not None and end not in stop:
        stops = ", ".join(f"{token} {tokenizer.pieces.id_to_token(token)}" for token in stop)
        raise GemmaError(
            f"the chat template ends a turn with the token {end} {tokenizer.pieces.id_to_token(end)}, "
            f"but answers end only at {stops or 'no token'}, so they would go on",
            f"add {end} to eos_token_id in generation_config.json",
        )
