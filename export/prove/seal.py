"""The artifacts of a draft against what the references say; then it is sealed.  A large model needs no torch here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from runtime.bundle.written import written
from runtime.engine.contract import Engine
from runtime.engine.engine import ENGINES
from runtime.language.tokenizer import Tokenizer
from runtime.machine.resident_memory import peak_rss, trim_heap
from runtime.parts.golden import check_golden_parts
from runtime.progress import Progress
from runtime.session.model import Model
from runtime.session.session import Session

from ..model.config import GemmaConfig
from .call_scripts import Answer, Script, answered
from .compare import Reader, ReferenceLogits, compare, goldens
from .gates import EXACT, FLIPPED, Terms, judge
from .rehearsal import rehearse
from .runs import FLOAT, WHOLE_PROOF, ProofSettings, Reference, Run, is_large, prompt_lengths, runs


@dataclass(frozen=True)
class Draft:
    """A bundle before its proof.

    ids: (T,), a text; readings: what references say of it; is_float: weights, rows and caches are the checkpoint's
    own values; peak: bytes of memory it took so far; generated: the weights are by `synth`
    """

    manifest: Manifest
    ids: NDArray[np.int64]
    config: GemmaConfig
    recipe: Recipe
    readings: dict[Reference, ReferenceLogits]
    is_float: bool
    peak: int = 0
    generated: bool = False


@dataclass(frozen=True)
class Proof:
    """A draft in `folder`, and what it is compared with besides its readings.

    sources: where the references of a small model take their values from, to choose tokens themselves
    scripts: conversations whose calls are compared with those of `model`, a FloatSource, once the artifacts are closed
    """

    draft: Draft
    folder: Path
    terms: Terms
    settings: ProofSettings
    sources: Callable[[Reference], Any] | None
    scripts: Sequence[Script]
    model: Callable[[], Any] | None

    @property
    def bundle(self) -> Bundle:
        return unsealed(self.draft.manifest, self.folder)

    def report(self, run: Run, engine: Engine, progress: Callable[[float], None]) -> tuple[Report, list[str]]:
        """Compare one way to run an artifact, and judge it; the losses that are accepted."""
        draft, runner = self.draft, run.runner
        reference = run.reference(draft.manifest, draft.config.cache_bits)
        settings = run.settings(draft.manifest, self.settings)
        prompts = prompt_lengths(settings.prompts, draft.config.window, len(draft.ids))
        against = {"float": draft.readings[FLOAT], "quantized": draft.readings[reference]}
        reader = Reader.at_the_beginning(engine, draft.ids, settings.compared_rows)
        report = compare(runner.name, reader, against, prompts, progress)
        limit = FLIPPED if reference.cache_bits > 0 else EXACT
        if self.sources and runner.exact and not is_large(draft.manifest):
            from .greedy import compare_greedy

            greedy = compare_greedy(engine, self.sources(reference), draft.ids, limit)
            report = msgspec.structs.replace(report, greedy=greedy)
        return report, judge(report, self.terms, exact=runner.exact, half=runner.half, limit=limit)

    def ask(self, run: Run, engine: Engine, report: Report) -> tuple[Rehearsal | None, list[Answer]]:
        """Write golden answers; where this computer runs whole sessions, rehearse one and answer the scripts."""
        (self.folder / "golden.json").write_bytes(written(goldens(engine, self.draft.ids, report)))
        if run.target not in ENGINES:
            return None, []
        session = Session(Model(self.bundle, weights=engine.weights), engine)
        return rehearse(session), list(answered(session, self.scripts))

    def calls(self, answers: Sequence[Answer]) -> CallReport | None:
        """Compare what was said to the scripts with what the checkpoint says."""
        if not self.scripts or not self.model:
            return None
        from .call_fidelity import compare_calls

        stop = frozenset(self.draft.manifest.generation.stop)
        return compare_calls(self.model(), Tokenizer.of(self.bundle), stop, answers)


def prove(
    draft: Draft,
    folder: Path,
    sources: Callable[[Reference], Any] | None = None,
    scripts: Sequence[Script] = (),
    model: Callable[[], Any] | None = None,
    *,
    accept_loss: bool = False,
    settings: ProofSettings = WHOLE_PROOF,
) -> Reports:
    """Compare every way to run every artifact, judge, write parity.json and golden.json, and seal.

    Golden answers are those of the first artifact, run in its last way.  For `sources`, `scripts` and `model` see
    Proof.  accept_loss: a recipe's gates on the float model may be missed; parity.json says so.
    """
    terms = Terms(draft.recipe, draft.is_float, draft.generated, accept_loss)
    proof = Proof(draft, folder, terms, settings, sources, scripts, model)
    all_runs = runs(draft.manifest)
    golden = [run for run in all_runs if run.target == all_runs[0].target][-1]
    reports: list[Report] = []
    missed: list[str] = []
    rehearsal: Rehearsal | None = None
    answers: list[Answer] = []
    steps = len(prompt_lengths(settings.prompts, draft.config.window, len(draft.ids)))
    with Progress("verifying", len(all_runs) * (1 + steps)) as progress:
        for run in all_runs:
            progress.advance(1)
            trim_heap()
            engine = run.runner.open(proof.bundle)
            report, losses = proof.report(run, engine, progress.advance)
            reports.append(report)
            missed += losses
            if run == golden:
                rehearsal, answers = proof.ask(run, engine, report)
            del engine  # before the next is opened
    loss = AcceptedLoss(accepted_by=terms.accepted_by, missed=missed) if missed else None
    sealed = Reports(reports, rehearsal, proof.calls(answers), loss, check_golden_parts(proof.bundle))
    (folder / "parity.json").write_bytes(written(sealed))
    finish(draft.manifest, folder, draft.peak)
    return sealed


def unsealed(manifest: Manifest, folder: Path) -> Bundle:
    return Bundle(folder, msgspec.structs.replace(manifest, files=describe(folder, hashed=False)))


def finish(manifest: Manifest, folder: Path, peak: int) -> None:
    provenance = msgspec.structs.replace(manifest.provenance, peak_rss_bytes=max(peak, peak_rss()))
    seal(folder, msgspec.structs.replace(manifest, files=describe(folder), provenance=provenance))
