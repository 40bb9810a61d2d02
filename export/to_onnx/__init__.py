"""The target `onnx`, for onnxruntime on a CPU.  Nothing heavy is imported until it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Artifact
from runtime.engine.contract import Engine
from runtime.engine.onnx import OnnxEngine

from ..targets import Runner, Target
from .settings import Settings

if TYPE_CHECKING:
    from ..model.arrays import Floats
    from ..model.capture import Graph
    from ..model.config import ActivationScales, GemmaConfig
    from ..parts.source import PartGraph, PartSource
    from ..weights.linears import Weights


def target(settings: Settings) -> Target:
    return Target(
        name="onnx",
        extra="export",
        lower=partial(lower_graph, settings),
        stored_weights=stored_weights,
        stored_ranges=stored_ranges,
        scales_as_stored=scales_as_stored,
        runners=(Runner("onnx exact", open_exact, exact=True, small=True), Runner("onnx", OnnxEngine.open)),
        lower_part=partial(lower_part_graph, settings),
    )


def lower_graph(settings: Settings, graph: Graph, weights: Weights, folder: Path) -> Artifact:
    from .lower import lower

    return lower(graph, settings, weights, folder)


def lower_part_graph(settings: Settings, source: PartSource, graph: PartGraph, folder: Path, place: str) -> Artifact:
    from .part import lower_part

    return lower_part(source, graph, settings, folder, place)


def stored_weights(path: Path) -> Iterator[tuple[list[str], Iterator[tuple[int, Floats]]]]:
    from .read import stored_weights

    return stored_weights(path)


def stored_ranges(path: Path, config: GemmaConfig) -> Iterator[tuple[str, ActivationScales]]:
    from .read import stored_ranges

    return stored_ranges(path, config)


def scales_as_stored(scales: Floats) -> Floats:
    """Scales are stored as they were decided."""
    return scales


def open_exact(bundle: Bundle) -> Engine:
    from .exact import open_exact

    return open_exact(bundle)


TARGET = target(Settings())
