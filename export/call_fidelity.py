"""Whether a bundle calls the tools that its checkpoint calls: scripted conversations, answered greedily by both.

The bundle answers first.  The float model then reads its answer at once: where each token is the one it would have
said, the answers are equal.  Where one is not, the float model goes on from there by itself, and the calls decide.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.answer_reader import AnswerReader
from runtime.errors import GemmaError
from runtime.events import End, Event, ToolCall
from runtime.sampler import Sampling
from runtime.session import Session
from runtime.tool_schema import Declaration, declarations, read_call

from .reference import FloatSource, hidden_states, logits
from .write_text import steps

Ids = NDArray[np.int64]
MOST_TOKENS = 256  # of an answer
TOGETHER = 4096  # tokens that the float model reads at once
NAMED = 8  # conversations that differ, of a report
GREEDY = Sampling(temperature=0.0)
HINT = 'a line is {"messages": [{"role": "user", "content": ...}], "tools": [...]}'


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation by its line, from 1, and what each called."""

    line: int
    bundle: list[str]
    checkpoint: list[str]


class CallReport(msgspec.Struct, frozen=True, kw_only=True):
    """Conversations; those in which the checkpoint calls a tool; those in which the bundle makes the same calls."""

    conversations: int
    calling: int
    same: int
    differences: list[Difference]

    @property
    def share(self) -> float:
        return self.same / self.conversations

    def line(self) -> str:
        return (
            f"calls           the same in {self.same} of {self.conversations} conversations ({self.share:.1%}); "
            f"the checkpoint calls in {self.calling}"
        )


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
    return Script(messages, tools)


def answered(session: Session, scripts: Sequence[Script]) -> Iterator[Answer]:
    """What a bundle says.  Raises GemmaError for messages or tools that can not be used."""
    for each in scripts:
        prompt = session.prepare(each.messages, GREEDY, MOST_TOKENS, tools=each.tools).prompt
        *tokens, end = session.generate(prompt, GREEDY, MOST_TOKENS)
        said = [token.id for token in tokens if not isinstance(token, End)]
        ended = isinstance(end, End) and end.stop == "stop"
        yield Answer(prompt, said, ended, declarations(each.tools))


def calls_in(session: Session, answer: Answer, said: Sequence[int]) -> list[str]:
    """Calls of what was said to a prompt, each on one line; arguments in the order of their names."""
    reader = AnswerReader(session.tokenizer, session.control, answer.prompt, lambda call: read_call(answer.tools, call))
    events: list[Event] = [event for token in said for event in reader.push(token)]
    calls = [event for event in [*events, *reader.finish()] if isinstance(event, ToolCall)]
    return [f"{call.name} {json.dumps(call.arguments, ensure_ascii=False, sort_keys=True)}" for call in calls]


def compare_calls(source: FloatSource, session: Session, answers: Sequence[Answer]) -> CallReport:
    """The answers of a bundle against those of its checkpoint; of the session only tokenizer and stops are used."""
    stop = frozenset(session.manifest.generation.stop)
    differences, calling = [], 0
    chosen = (tokens for some in together(answers) for tokens in choices(source, some))
    for line, (answer, tokens) in enumerate(zip(answers, chosen, strict=True), 1):
        expected = calls_in(session, answer, float_answer(source, answer, tokens, stop))
        called = calls_in(session, answer, answer.said)
        calling += bool(expected)
        if called != expected:
            differences.append(Difference(line=line, bundle=called, checkpoint=expected))
    same = len(answers) - len(differences)
    return CallReport(conversations=len(answers), calling=calling, same=same, differences=differences[:NAMED])


def together(answers: Sequence[Answer]) -> Iterator[list[Answer]]:
    """Answers in their order, as many as the float model reads at once when all are as long as the longest."""
    some: list[Answer] = []
    for answer in answers:
        longest = max(each.length for each in [*some, answer])
        if some and longest * (len(some) + 1) > TOGETHER:
            yield some
            some = []
        some.append(answer)
    yield some


def choices(source: FloatSource, answers: Sequence[Answer]) -> Iterator[list[int]]:
    """For each answer the tokens that the float model would have said in their places, and what comes behind it."""
    ids = np.zeros((len(answers), max(answer.length for answer in answers)), np.int64)
    for row, answer in zip(ids, answers, strict=True):
        row[: answer.length] = [*answer.prompt, *answer.said]  # what stands behind changes nothing before it
    for states, answer in zip(hidden_states(source, ids), answers, strict=True):
        yield logits(source, states[len(answer.prompt) - 1 : answer.length]).argmax(-1).tolist()


def float_answer(source: FloatSource, answer: Answer, chosen: Sequence[int], stop: frozenset[int]) -> list[int]:
    """What the checkpoint says: as the bundle as far as it chooses the same tokens, then by itself."""
    for place, (mine, theirs) in enumerate(zip(answer.said, chosen, strict=False)):
        if mine != theirs:
            return gone_on(source, answer.prompt, answer.said[:place], theirs, stop)
    return gone_on(source, answer.prompt, answer.said, chosen[-1], stop) if answer.ended else answer.said


def gone_on(source: FloatSource, prompt: list[int], said: list[int], token: int, stop: frozenset[int]) -> list[int]:
    """An answer so far, the token that comes next, and those that follow it."""
    length, begun = len(prompt) + MOST_TOKENS, len(prompt) + len(said)
    if token in stop or begun == length:
        return said
    ids = np.zeros((1, length), np.int64)
    ids[0, : begun + 1] = [*prompt, *said, token]
    for place, hidden in zip(range(begun + 1, length), steps(source, ids, begun + 1, length), strict=False):
        ids[0, place] = logits(source, hidden.numpy()).argmax()
        if ids[0, place] in stop:
            return list(map(int, ids[0, len(prompt) : place]))
    return list(map(int, ids[0, len(prompt) :]))
