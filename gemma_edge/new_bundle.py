"""A bundle made of a checkpoint, by the packages of the extra `export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtime.needs import needs


def export_bundle(
    source: str | Path,
    destination: str | Path,
    *,
    recipe: str | None = None,
    targets: Sequence[str] = ("onnx",),
    calibrate: str | Path | None = None,
    replace: bool = False,
    accept_loss: bool = False,
) -> Path:
    """Make a bundle of a checkpoint (a folder or a hub id), compare it with the float model, and return its folder.

    recipe: what is stored how, as `gemma-edge export --help` lists them; None takes what suits the checkpoint.
    calibrate: "auto", "none" or a file of UTF-8 text that a calibrated recipe fits the integers to.
    replace: a bundle that is at the destination.  accept_loss: seal a bundle that answers otherwise than the
    checkpoint more often than its recipe allows.
    Raises NotInstalled without the extra, GateMissed for a loss that is not accepted, and GemmaError for what can
    not be exported; then nothing is left behind.  It tells its progress on standard error.
    """
    request = needs("export.request", "export", "export_bundle").Request(
        str(source), tuple(targets), recipe, None if calibrate is None else str(calibrate)
    )
    pipeline = needs("export.pipeline", "export", "export_bundle")
    checkpoint, chosen, text = request.opened()
    pipeline.export_bundle(
        checkpoint, Path(destination), request.targets, chosen, replace=replace, text=text, accept_loss=accept_loss
    )
    return Path(destination)
