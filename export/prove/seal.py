"""The artifacts of a draft against what the references say; then it is sealed.  A large model needs no torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from quantize.recipe import Recipe
from runtime.bundle.bundle import Bundle, describe, seal
from runtime.bundle.manifest import Manifest
from runtime.bundle.parity import AcceptedLoss, CallReport, Rehearsal, Report, Reports
from runtime.engine.engine import ENGINES
from runtime.language.tokenizer import Tokenizer
from runtime.machine.resident_memory import peak_rss, trim_heap
from runtime.progress import Progress
from runtime.session.model import Model
from runtime.session.session import Session

from ..model.config import GemmaConfig
from ..targets import Runner, find_target
from .call_scripts import Answer, Script, answered
from .compare import (
    EXACT,
    FLIPPED,
    KEPT,
    LARGE,
    MANY,
    Asked,
    Reading,
    compare,
    few_lengths,
    goldens,
    judge,
    lengths,
    short_lengths,
)
from .rehearsal import rehearse

Key = tuple[int, bool]  # of a reference: bits of the caches, and whether the head's second stage is left out
FLOAT: Key = (-1, False)  # the checkpoint's own values


@dataclass(frozen=True)
class Way:
    """An artifact, and a way to run it: a line of parity.json."""

    target: str
    runner: Runner

    def key(self, manifest: Manifest, bits: int) -> Key:
        """The integers' reference that it is compared with; `bits`: of the host's caches."""
        return (0 if manifest.artifacts[self.target].states else bits), self.runner.exact


@dataclass(frozen=True)
class Draft:
    """A bundle before its proof.  ids (T,): a text; readings: what references say of it; peak: bytes it took so far;
    generated: the weights are by `synth`.
    """

    manifest: Manifest
    ids: NDArray[np.int64]
    config: GemmaConfig
    recipe: Recipe
    readings: dict[Key, Reading]
    peak: int = 0
    generated: bool = False


def prove(
    draft: Draft,
    folder: Path,
    sources: Callable[[int, bool], Any] | None = None,
    scripts: Sequence[Script] = (),
    model: Callable[[], Any] | None = None,
    *,
    accept_loss: bool = False,
) -> Reports:
    """Compare every way to run every artifact, judge, write parity.json and golden.json, and seal.

    Golden answers are those of the first artifact, run in its last way.  `sources`: where references of a small
    model take their values from, to choose tokens themselves.  scripts: conversations whose calls are compared with
    those of the float model, a FloatSource that `model` gives once the artifacts are closed.  accept_loss: a recipe's
    gates on the float model may be missed; parity.json says so.
    """
    manifest, config, ids = draft.manifest, draft.config, draft.ids
    bundle, all_ways = unsealed(manifest, folder), ways(manifest)
    golden = [way for way in all_ways if way.target == all_ways[0].target][-1]
    asked = Asked(draft.recipe, draft.generated, accept_loss)
    missed: list[str] = []
    reports: list[Report] = []
    rehearsal: Rehearsal | None = None
    answers: list[Answer] = []
    with Progress("verifying", len(all_ways) * (1 + len(lengths(config.window, len(ids))))) as progress:
        for way in all_ways:
            runner, key = way.runner, way.key(manifest, config.cache_bits)
            against = {"float": draft.readings[FLOAT], "quantized": draft.readings[key]}
            progress.advance(1)
            trim_heap()
            decoder = runner.open(bundle)
            prompts = places(runner, manifest, config.window, len(ids))
            report = compare(decoder, ids, against, progress.advance, runner.name, prompts, kept(manifest))
            limit = FLIPPED if key[0] > 0 else EXACT
            if sources and runner.exact and not large(manifest):
                from .greedy import compare_greedy

                report = msgspec.structs.replace(report, greedy=compare_greedy(decoder, sources(*key), ids, limit))
            missed += judge(report, asked, exact=runner.exact, half=runner.half, limit=limit)
            if way == golden:
                (folder / "golden.json").write_bytes(pretty(goldens(decoder, ids, report)))
                if way.target in ENGINES:
                    session = Session(Model(bundle, weights=decoder.weights), decoder)
                    rehearsal = rehearse(session)
                    answers = list(answered(session, scripts))
                    del session
            reports.append(report)
            del decoder
    calls = compared_calls(bundle, answers, model) if scripts and model else None
    loss = AcceptedLoss(accepted_by=asked.accepted_by, missed=missed) if missed else None
    proof = Reports(reports, rehearsal, calls, loss)
    (folder / "parity.json").write_bytes(pretty(proof))
    finish(manifest, folder, draft.peak)
    return proof


def compared_calls(bundle: Bundle, answers: Sequence[Answer], model: Callable[[], Any]) -> CallReport:
    from .call_fidelity import compare_calls

    stop = frozenset(bundle.manifest.generation.stop)
    return compare_calls(model(), Tokenizer.of(bundle), stop, answers)


def unsealed(manifest: Manifest, folder: Path) -> Bundle:
    return Bundle(folder, msgspec.structs.replace(manifest, files=describe(folder, hashed=False)))


def in_order(targets: Iterable[str]) -> list[str]:
    """`gemma-edge verify` runs the first."""
    return sorted(targets, key=lambda name: [*ENGINES, name].index(name))


def ways(manifest: Manifest) -> list[Way]:
    every = (Way(name, runner) for name in in_order(manifest.artifacts) for runner in find_target(name).runners)
    return [way for way in every if not (large(manifest) and way.runner.small)]


def large(manifest: Manifest) -> bool:
    return sum(manifest.model.parameters.values()) > LARGE


def places(runner: Runner, manifest: Manifest, window: int, limit: int) -> list[int]:
    """Lengths of the prompts that are compared."""
    if not large(manifest):
        return lengths(window, limit)
    return (few_lengths if runner.slow else short_lengths)(window, limit)


def kept(manifest: Manifest) -> int:
    """The most positions of a prompt that are compared."""
    return KEPT if large(manifest) else MANY


def finish(manifest: Manifest, folder: Path, peak: int) -> None:
    provenance = msgspec.structs.replace(manifest.provenance, peak_rss_bytes=max(peak, peak_rss()))
    seal(folder, msgspec.structs.replace(manifest, files=describe(folder), provenance=provenance))


def pretty(value: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
