"""A bundle made of a checkpoint, by the packages of the extra `export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import UnionType

from runtime.errors import RequestError
from runtime.language.answer_forms import is_texts
from runtime.needs import needs


def export_bundle(
    source: str | Path,
    destination: str | Path,
    *,
    recipe: str | None = None,
    targets: str | Sequence[str] = ("onnx",),
    calibrate: str | Path | None = None,
    replace: bool = False,
    accept_loss: bool = False,
) -> Path:
    """Make a bundle of a checkpoint (a folder or a hub id), compare it with the float model, and return its folder.

    targets: names of what the bundle is for, as `gemma-edge export --help` lists them, or one name.
    recipe: what is stored how, as `gemma-edge export --help` lists them; None takes what suits the checkpoint.
    calibrate: "auto", "none" or a file of UTF-8 text that a calibrated recipe fits the integers to.
    replace: a bundle that is at the destination.  accept_loss: seal a bundle that answers otherwise than the
    checkpoint more often than its recipe allows.
    Raises RequestError for arguments of another type, NotInstalled without the extra, GateMissed for a loss that is
    not accepted, and GemmaError for a name that is unknown, a destination that is taken, or a checkpoint that can not
    be exported; then nothing is left behind.  It tells its progress on standard error.
    """
    check_kinds(str | Path, "a text or a Path", source=source, destination=destination)
    check_kinds(str | Path | None, "a text or a Path", calibrate=calibrate)
    check_kinds(str | None, "the name of a recipe", recipe=recipe)
    check_kinds(bool, "True or False", replace=replace, accept_loss=accept_loss)
    names = target_names(targets)
    request = needs("export.request", "export", "export_bundle").Request(
        str(source), names, recipe, None if calibrate is None else str(calibrate)
    )
    pipeline = needs("export.pipeline", "export", "export_bundle")
    checkpoint, chosen, text = request.opened()
    pipeline.export_bundle(
        checkpoint, Path(destination), request.targets, chosen, replace=replace, text=text, accept_loss=accept_loss
    )
    return Path(destination)


def check_kinds(kind: type | UnionType, allowed: str, **arguments: object) -> None:
    """Raises RequestError for an argument of another type."""
    for name, value in arguments.items():
        if not isinstance(value, kind):
            raise RequestError(f"{name} must be {allowed}, not {value!r:.40}", "correct it")


def target_names(targets: str | Sequence[str]) -> tuple[str, ...]:
    """The names of targets, of which one may stand alone.  Raises RequestError for what is none."""
    if isinstance(targets, str):
        return (targets,)
    if not is_texts(targets) or not targets:
        raise RequestError(f"targets must be a list of names, not {targets!r:.40}", 'give ["onnx"]')
    return tuple(targets)
