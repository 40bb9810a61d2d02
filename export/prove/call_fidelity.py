"""Whether a bundle calls the tools that its checkpoint calls: scripted conversations, answered greedily by both.

The bundle answers first.  The float model then reads its answer at once: where each token is the one it would have
said, the answers are equal.  Where one is not, the float model goes on from there by itself, and the calls decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from runtime.bundle.bundle import Bundle
from runtime.bundle.parity import NAMED, CallReport, Difference
from runtime.engine.engine import DEFAULT, longest
from runtime.language.tokenizer import Tokenizer
from runtime.progress import Progress
from runtime.session.model import Model

from ..calibrate.speak import steps
from ..checkpoint.checkpoint import Checkpoint
from ..reference import FloatSource, hidden_states, logits
from .call_scripts import MOST_TOKENS, Answer, answered, calls_in, check_scripts, read_scripts
from .divergence import check_shape

TOKENS = 4096  # that the float model reads at once


def compare_calls(
    source: FloatSource, tokenizer: Tokenizer, stop: frozenset[int], answers: Sequence[Answer]
) -> CallReport:
    """The answers of a bundle against those of its checkpoint, which end at the tokens `stop`."""
    differences, calling = [], 0
    chosen = (tokens for batch in batches(answers) for tokens in choices(source, batch))
    for line, (answer, tokens) in enumerate(zip(answers, chosen, strict=True), 1):
        expected = calls_in(tokenizer, answer, float_answer(source, answer, tokens, stop))
        called = calls_in(tokenizer, answer, answer.said)
        calling += bool(expected)
        if called != expected:
            differences.append(Difference(line=line, bundle=called, checkpoint=expected))
    same = len(answers) - len(differences)
    return CallReport(conversations=len(answers), calling=calling, same=same, differences=differences[:NAMED])


def batches(answers: Sequence[Answer], tokens: int = TOKENS) -> Iterator[list[Answer]]:
    """Answers in their order, as many as have `tokens` tokens when all are as long as the longest of them."""
    batch: list[Answer] = []
    for answer in answers:
        width = max(answer.length for answer in [*batch, answer])
        if batch and width * (len(batch) + 1) > tokens:
            yield batch
            batch = []
        batch.append(answer)
    yield batch


def choices(source: FloatSource, answers: Sequence[Answer]) -> Iterator[list[int]]:
    """The tokens that the float model would have said in place of each answer, and what comes behind it."""
    ids = np.zeros((len(answers), max(answer.length for answer in answers)), np.int64)
    for row, answer in zip(ids, answers, strict=True):
        row[: answer.length] = [*answer.prompt, *answer.said]  # what stands behind changes nothing before it
    for states, answer in zip(hidden_states(source, ids), answers, strict=True):
        yield logits(source, states[len(answer.prompt) - 1 : answer.length]).argmax(-1).tolist()


def float_answer(source: FloatSource, answer: Answer, chosen: Sequence[int], stop: frozenset[int]) -> list[int]:
    """What the checkpoint says: as the bundle as far as it chooses the same tokens, then by itself."""
    for place, (mine, theirs) in enumerate(zip(answer.said, chosen, strict=False)):
        if mine != theirs:
            return continued(source, answer.prompt, answer.said[:place], theirs, stop)
    return continued(source, answer.prompt, answer.said, chosen[-1], stop) if answer.ended else answer.said


def continued(source: FloatSource, prompt: list[int], said: list[int], token: int, stop: frozenset[int]) -> list[int]:
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


def evaluate(source: str, bundles: Sequence[Bundle], path: Path, threads: int) -> list[CallReport]:
    """Each bundle on the conversations of a file.

    Raises GemmaError for a file, a bundle or a checkpoint that can not be read, and where they do not fit.
    """
    scripts = read_scripts(path)
    for bundle in bundles:
        context = longest(bundle.manifest, DEFAULT)
        check_scripts(scripts, Tokenizer.of(bundle), context, str(bundle.folder))
    checkpoint = Checkpoint.open(source)
    for bundle in bundles:
        check_shape(checkpoint, bundle)
    reports = []
    for bundle in bundles:
        session = Model(bundle, threads=threads).session()
        with Progress(f"answering {bundle.manifest.recipe.name}", len(scripts)) as progress:
            answers = list(answered(session, scripts, progress.advance))
        stop = frozenset(bundle.manifest.generation.stop)
        reports.append(compare_calls(FloatSource(checkpoint), session.tokenizer, stop, answers))
    return reports
