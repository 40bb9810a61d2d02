"""An export of a large model: what needs torch runs in a process of its own, which ends before the artifacts run.

Torch and what it leaves behind take 0.7 GB, and an artifact in onnxruntime as much as its weights: one after
the other they fit where both do not.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from runtime.bundle import Workplace, created
from runtime.errors import GemmaError
from runtime.resident_memory import keep_little, peak_rss, resident

from .prove import Draft, prove
from .verify import Report

LARGE = 500_000_000  # bytes of weights: for fewer, a second process costs more than it saves


@dataclass(frozen=True)
class Request:
    """What was asked for, in words: a checkpoint's folder or hub id, targets, --recipe and --calibrate."""

    source: str
    targets: tuple[str, ...]
    recipe: str | None
    calibrate: str | None


def is_large(source: str) -> bool:
    """Whether a folder's weights are; what is not a folder is on the hub, and may be."""
    folder = Path(source)
    return not folder.exists() or sum(path.stat().st_size for path in folder.glob("*.safetensors")) > LARGE


def export_apart(
    source: str, destination: Path, targets: Sequence[str], recipe: str | None, calibrate: str | None, *, replace: bool
) -> list[Report]:
    """As `pipeline.export_bundle`, which it raises the errors of."""
    with created(destination, replace=replace) as place:
        request = Request(source, tuple(targets), recipe, calibrate)
        draft = of_another_process(request, place, destination)
        return prove(dataclasses.replace(draft, peak=draft.peak + resident()), place.bundle)


def of_another_process(request: Request, place: Workplace, destination: Path) -> Draft:
    """Raises what the other process raises, and GemmaError if it was ended."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(sender, request, place, destination))
    process.start()
    sender.close()
    try:
        answer = received(receiver)
    finally:
        receiver.close()
        process.join()
    if isinstance(answer, BaseException):
        raise answer
    if isinstance(answer, Draft):
        return answer
    raise GemmaError(
        f"{request.source}: the export was ended by the system (exit code {process.exitcode})",
        "it may have been short of memory: close other programs and export again",
    )


def received(receiver: connection.Connection) -> Any:
    """None if the other process has ended without a word."""
    try:
        return receiver.recv()
    except EOFError:
        return None


def work(sender: connection.Connection, request: Request, place: Workplace, destination: Path) -> None:
    """In the other process: answer with a draft, or with what went wrong."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    keep_little()
    try:
        answer: Draft | BaseException = draft_of(request, place, destination)
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


def draft_of(request: Request, place: Workplace, destination: Path) -> Draft:
    from .calibration_store import stored
    from .calibration_text import AUTO, Text
    from .checkpoint import Checkpoint
    from .choose_recipe import choose_recipe
    from .pipeline import drafted, key_of, passage_for
    from .targets import load_targets

    lowerings = load_targets(request.targets)
    checkpoint = Checkpoint.open(request.source)
    recipe = choose_recipe(checkpoint, request.recipe, request.calibrate)
    text = Text.of(request.calibrate or "auto") if recipe.calibrated else AUTO
    ids = passage_for(checkpoint, recipe)
    with stored(destination, key_of(checkpoint, recipe, text)) as store:
        draft, _ = drafted(checkpoint, place, lowerings, recipe, ids, store, text)
    return dataclasses.replace(draft, peak=peak_rss())
