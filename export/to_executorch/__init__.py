"""The target `executorch`, for ExecuTorch with XNNPACK.  Nothing heavy is imported until it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.bundle.manifest import Artifact
from runtime.engine.executorch import ExecutorchEngine

from ..targets import Runner, Target
from .settings import Settings

if TYPE_CHECKING:
    from ..model.arrays import Floats
    from ..model.capture import Graph
    from ..model.config import ActivationScales, GemmaConfig
    from ..weights.linears import Weights


def target(settings: Settings) -> Target:
    return Target(
        name="executorch",
        extra="executorch",
        lower=partial(lower_graph, settings),
        stored_weights=stored_weights,
        stored_ranges=stored_ranges,
        scales_as_stored=scales_as_stored,
        runners=(Runner("executorch", ExecutorchEngine.open),),
        context=settings.context,
        with_context=lambda context: target(replace(settings, context=context)),
    )


def lower_graph(settings: Settings, graph: Graph, weights: Weights, folder: Path) -> Artifact:
    from .lower import lower

    return lower(graph, settings, weights, folder)


def stored_weights(path: Path) -> Iterator[tuple[list[str], Iterator[tuple[int, Floats]]]]:
    from .read import stored_weights

    return stored_weights(path)


def stored_ranges(path: Path, config: GemmaConfig) -> Iterator[tuple[str, ActivationScales]]:
    from .read import stored_ranges

    return stored_ranges(path, config)


def scales_as_stored(scales: Floats) -> Floats:
    """Scales are stored as they were decided."""
    return scales


TARGET = target(Settings())
