"""Parts into a bundle: an artifact for each target that can, and golden calls of the torch module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from runtime.bundle.manifest import Part
from runtime.bundle.written import written
from runtime.parts.golden import PackedArray, PartCall, PartGoldens, packed

from ..targets import Target
from .source import PartSource, captured


def lowered_parts(sources: Sequence[PartSource], targets: Mapping[str, Target], folder: Path) -> dict[str, Part]:
    """Lower parts below `folder` with those of the targets that lower parts; what the manifest says of each, by name.

    Raises GemmaError for an operator that a target does not know.
    """
    return {source.name: lowered_part(source, targets, folder) for source in sources}


def lowered_part(source: PartSource, targets: Mapping[str, Target], folder: Path) -> Part:
    """Lower one part, and write its golden calls."""
    place = f"parts/{source.name}"
    (folder / place).mkdir(parents=True)
    graph = captured(source)
    artifacts = {
        name: target.lower_part(source, graph, folder, f"{place}/{name}")
        for name, target in targets.items()
        if target.lower_part
    }
    (folder / place / "golden.json").write_bytes(written(goldens(source)))
    return Part(kind=source.kind, artifacts=artifacts, settings=dict(source.settings), golden=f"{place}/golden.json")


def goldens(source: PartSource) -> PartGoldens:
    """Run the torch module on each of its calls."""
    calls = [PartCall(inputs=arrays(call), outputs=arrays(source.answers(call))) for call in source.calls]
    return PartGoldens(tolerance=source.tolerance, calls=calls)


def arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, PackedArray]:
    """Return tensors as JSON holds them."""
    return {name: packed(tensor.numpy()) for name, tensor in tensors.items()}
