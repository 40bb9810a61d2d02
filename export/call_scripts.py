"""Scripted conversations with tools, and what a bundle says to each, greedily."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.answer_reader import AnswerReader
from runtime.control_tokens import ControlTokens
from runtime.errors import GemmaError
from runtime.events import End, Event, ToolCall
from runtime.messages import checked
from runtime.sampler import Sampling
from runtime.session import Session
from runtime.tokenizer import Tokenizer
from runtime.tool_schema import Declaration, declarations, read_call

MOST_TOKENS = 256  # of an answer
GREEDY = Sampling(temperature=0.0)
HINT = 'a line is {"messages": [{"role": "user", "content": ...}], "tools": [...]}'


@dataclass(frozen=True)
class Script:
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]


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
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise GemmaError(f"--calls {path}: {error.strerror or error}", "give a file of JSON lines") from error
    except UnicodeDecodeError as error:
        raise GemmaError(f"--calls {path}: not UTF-8: {error}", "convert it, for example with iconv") from error
    scripts = [script(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not scripts:
        raise GemmaError(f"--calls {path}: no conversations", HINT)
    return scripts


def script(path: Path, number: int, line: str) -> Script:
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise GemmaError(f"--calls {path}, line {number}: not JSON: {error}", HINT) from error
    messages, tools = (given.get(name) if isinstance(given, dict) else None for name in ("messages", "tools"))
    if not isinstance(messages, list) or not isinstance(tools, list) or not tools:
        raise GemmaError(f"--calls {path}, line {number}: no messages and tools in it", HINT)
    try:
        checked(messages)
        declarations(tools)
    except GemmaError as error:
        raise GemmaError(f"--calls {path}, line {number}: {error.message}", error.hint) from error
    return Script(messages, tools)


def answered(
    session: Session, scripts: Sequence[Script], progress: Callable[[float], None] = lambda done: None
) -> Iterator[Answer]:
    """What a bundle says.  Raises GemmaError for messages or tools that can not be used."""
    for each in scripts:
        prompt = session.prepare(each.messages, GREEDY, MOST_TOKENS, tools=each.tools).prompt
        *tokens, end = session.generate(prompt, GREEDY, MOST_TOKENS)
        said = [token.id for token in tokens if not isinstance(token, End)]
        progress(1)
        ended = isinstance(end, End) and end.stop == "stop"
        yield Answer(prompt, said, ended, declarations(each.tools))


def calls_in(tokenizer: Tokenizer, answer: Answer, said: Sequence[int]) -> list[str]:
    """Calls of what was said to a prompt, each on one line; arguments in the order of their names."""
    control = ControlTokens.of(tokenizer.pieces.token_to_id)
    reader = AnswerReader(tokenizer, control, answer.prompt, lambda call: read_call(answer.tools, call))
    events: list[Event] = [event for token in said for event in reader.push(token)]
    calls = [event for event in [*events, *reader.finish()] if isinstance(event, ToolCall)]
    return [f"{call.name} {json.dumps(call.arguments, ensure_ascii=False, sort_keys=True)}" for call in calls]
