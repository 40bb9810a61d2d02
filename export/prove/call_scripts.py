"""Scripted conversations with tools, and what a bundle says to each, greedily."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.calls.tool_schema import Declaration, declarations, read_call
from runtime.engine.engine import ENGINES
from runtime.engine.sampler import Sampling
from runtime.errors import ContextFull, GemmaError
from runtime.language.control_tokens import ControlTokens
from runtime.language.events import End, Event, ToolCall
from runtime.language.messages import checked
from runtime.language.tokenizer import Tokenizer
from runtime.session.answer_reader import AnswerReader
from runtime.session.prompt import prompt_of
from runtime.session.session import Session

MOST_TOKENS = 256  # of an answer
GREEDY = Sampling(temperature=0.0)
BLANKS = " \t\r"  # of JSON, inside a line
HINT = 'a line is {"messages": [{"role": "user", "content": ...}], "tools": [...]}'


@dataclass(frozen=True)
class Script:
    """A conversation, and where it stands, for errors."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    place: str = "a conversation"


@dataclass(frozen=True)
class Answer:
    """Ids of a prompt and of what a bundle said to it; `ended` by itself; the tools that were declared."""

    prompt: list[int]
    said: list[int]
    ended: bool
    tools: list[Declaration]

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.said)


def read_scripts(path: Path) -> list[Script]:
    """Lines of JSON.  Raises GemmaError for a file that has none, and names the first line that is wrong."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")  # in JSON's strings other breaks of lines may stand
    except OSError as error:
        raise GemmaError(f"{path}: {error.strerror or error}", "give a file of JSON lines") from error
    except UnicodeDecodeError as error:
        raise GemmaError(f"{path} is not UTF-8: {error}", "convert it, for example with iconv") from error
    places = (f"{path}, line {number}" for number in range(1, len(lines) + 1))
    scripts = [script(place, line) for place, line in zip(places, lines, strict=True) if line.strip(BLANKS)]
    if not scripts:
        raise GemmaError(f"{path} holds no conversations", HINT)
    return scripts


def script(place: str, line: str) -> Script:
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise GemmaError(f"{place} is not JSON: {error}", HINT) from error
    messages, tools = (parsed.get(name) if isinstance(parsed, dict) else None for name in ("messages", "tools"))
    if not isinstance(messages, list) or not isinstance(tools, list) or not tools:
        raise GemmaError(f"{place}: the object needs the fields messages and tools", HINT)
    with named(place):
        checked(messages)
        declarations(tools)
    return Script(messages, tools, place)


@contextmanager
def named(place: str) -> Iterator[None]:
    """Errors of a script say where it stands."""
    try:
        yield
    except GemmaError as error:
        raise GemmaError(f"{place}: {error.message}", error.hint) from error


def answering(targets: Collection[str]) -> str:
    """The target whose artifact answers scripts.  Raises GemmaError where nothing here runs any."""
    first = next((name for name in ENGINES if name in targets), None)
    if first is None:
        raise GemmaError(
            f"tool calls are compared by running the bundle, and nothing here runs {', '.join(targets)}",
            f"export for one of {', '.join(ENGINES)} too",
        )
    return first


def check_scripts(scripts: Sequence[Script], tokenizer: Tokenizer, context: int, model: str) -> None:
    """Render all scripts, before the long part of an export or of an evaluation begins.

    Raises GemmaError for a model that knows no calls, and by its place for a script that can not be asked.
    """
    if scripts and not knows_calls(tokenizer):
        raise GemmaError(f"{model} cannot call tools, so there is nothing to compare", "leave the conversations out")
    for asked in scripts:
        with named(asked.place):
            length = len(prompt_of(tokenizer, asked.messages, declarations(asked.tools)))
        if length > context:
            raise ContextFull(
                f"{asked.place}: the prompt has {length} tokens, but the context is {context}",
                "shorten the conversation",
            )


def knows_calls(tokenizer: Tokenizer) -> bool:
    """Whether there are tokens for calls, and a template that tells the model of tools."""
    return ControlTokens.of(tokenizer.pieces.token_to_id).can_call and tokenizer.reads("tools")


def answered(
    session: Session, scripts: Sequence[Script], progress: Callable[[float], None] = lambda done: None
) -> Iterator[Answer]:
    """What a bundle says.  Raises GemmaError for messages or tools that can not be used."""
    for asked in scripts:
        declared = declarations(asked.tools)
        prompt = prompt_of(session.tokenizer, asked.messages, declared)
        *tokens, end = session.generate(prompt, GREEDY, MOST_TOKENS)
        said = [token.id for token in tokens if not isinstance(token, End)]
        progress(1)
        ended = isinstance(end, End) and end.stop == "stop"
        yield Answer(prompt, said, ended, declared)


def calls_in(tokenizer: Tokenizer, answer: Answer, said: Sequence[int]) -> list[str]:
    """Calls of what was said to a prompt, each on one line; arguments in the order of their names."""
    control = ControlTokens.of(tokenizer.pieces.token_to_id)
    reader = AnswerReader(tokenizer, control, answer.prompt, lambda call: read_call(answer.tools, call))
    events: list[Event] = [event for token in said for event in reader.push(token)]
    calls = [event for event in [*events, *reader.finish()] if isinstance(event, ToolCall)]
    return [f"{call.name} {json.dumps(call.arguments, ensure_ascii=False, sort_keys=True)}" for call in calls]
