"""An export of a large model: what needs torch runs in a process of its own, which ends before the artifacts run.

Torch and what it leaves behind take 0.7 GB, and an artifact in onnxruntime as much as its weights: one after
the other they fit where both do not.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Sequence
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from runtime.bundle.bundle import Workplace, created
from runtime.bundle.parity import Reports
from runtime.errors import GemmaError
from runtime.machine.resident_memory import peak_rss, resident, return_blocks_early

from .calibrate.store import folder_of, removed, stored
from .prove.call_scripts import Script
from .prove.seal import Draft, prove
from .request import Request

LARGE_BYTES = 500_000_000  # bytes of weights: for fewer, a second process costs more than it saves


def is_large(source: str, limit: int = LARGE_BYTES) -> bool:
    """Whether a folder's weights have more bytes than `limit`; what is not a folder is on the hub, and may have."""
    folder = Path(source)
    return not folder.exists() or sum(path.stat().st_size for path in folder.glob("*.safetensors")) > limit


def export_apart(
    request: Request, destination: Path, *, replace: bool, scripts: Sequence[Script] = (), accept_loss: bool = False
) -> Reports:
    """Export as `pipeline.export_bundle` does, and raise its errors; with scripts this process needs torch too."""
    with created(destination, replace=replace) as place:
        draft = of_another_process(request, place, destination, scripts)
        draft = dataclasses.replace(draft, peak=draft.peak + resident())
        with removed(folder_of(destination) if draft.recipe.calibrated else None):
            model, proof = lambda: float_model(request.source), request.settings.proof  # noqa: E731
            return prove(draft, place.bundle, None, scripts, model, accept_loss=accept_loss, settings=proof)


def float_model(source: str) -> Any:
    from .checkpoint.checkpoint import Checkpoint
    from .reference import FloatSource

    return FloatSource(Checkpoint.open(source))


def of_another_process(request: Request, place: Workplace, destination: Path, scripts: Sequence[Script] = ()) -> Draft:
    """Raises what the other process raises, and GemmaError if it ended without a word."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(sender, request, place, destination, scripts))
    process.start()
    sender.close()
    try:
        answer = received(receiver)
    except BaseException:
        process.terminate()
        raise
    finally:
        receiver.close()
        process.join()
    if isinstance(answer, BaseException):
        raise answer
    if isinstance(answer, Draft):
        return answer
    raise ended(request.source, process.exitcode or 0)


def ended(source: str, code: int) -> GemmaError:
    if code < 0:
        return GemmaError(
            f"{source}: the system ended the export (signal {-code})",
            "memory may have run out: close other programs and export again",
        )
    return GemmaError(f"{source}: the export ended with exit code {code}", "report this as a bug, with the lines above")


def received(receiver: connection.Connection) -> Any:
    """None if the other process has ended without a word."""
    try:
        return receiver.recv()
    except EOFError:
        return None


def work(
    sender: connection.Connection, request: Request, place: Workplace, destination: Path, scripts: Sequence[Script]
) -> None:
    """Run in the other process, and answer with a draft, or with what went wrong."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    return_blocks_early()
    try:
        answer: Draft | BaseException = draft_of(request, place, destination, scripts)
    except (GemmaError, OSError) as error:
        answer = error
    except KeyboardInterrupt:
        answer = KeyboardInterrupt()
    sender.send(answer)


def end_with_parent() -> None:
    parent = parent_process()
    if parent:
        connection.wait([parent.sentinel])
        os._exit(1)


def draft_of(request: Request, place: Workplace, destination: Path, scripts: Sequence[Script]) -> Draft:
    """A calibration stays beside `destination` until the draft is proved."""
    from .pipeline import drafted, prepare
    from .targets import load_targets

    targets = load_targets(request.targets)
    checkpoint, recipe, text = request.opened()
    prepared = prepare(checkpoint, targets, recipe, text, scripts, request.settings)
    with stored(destination, prepared.calibration_key, keep=True) as store:
        draft, _ = drafted(prepared, place, store)
    return dataclasses.replace(draft, peak=peak_rss())
