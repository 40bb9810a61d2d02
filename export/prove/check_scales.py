"""The static ranges around the linears of an artifact are those of the release, read back from its files."""

from __future__ import annotations

from pathlib import Path

from runtime.errors import GemmaError

from ..model.config import FLOATS, GemmaConfig
from ..targets import Target


def check_scales(folder: Path, config: GemmaConfig, target: Target, file: str) -> None:
    """Raises GemmaError unless each linear is rounded as it was released, and those that were not are not."""
    labels = set()
    for label, scales in target.stored_ranges(folder / file, config):
        labels.add(label)
        decided = config.activation_scales.get(label, FLOATS)
        if scales != decided:
            raise GemmaError(
                f"{folder}: {label} has static ranges of {scales.input:g} and {scales.output:g} in the artifact, "
                f"and {decided.input:g} and {decided.output:g} in the checkpoint",
                "report this as a bug",
            )
    missing = sorted(set(config.activation_scales) - labels)
    if missing:
        raise GemmaError(
            f"{folder}: the artifact has no linear for the ranges of {missing[:5]}", "report this as a bug"
        )
