"""The target `coreml`, for iOS 18 and macOS 15.  Nothing heavy is imported until it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Artifact
from runtime.engine.contract import Engine

from ..targets import Runner, Target, single_stage
from .settings import Settings

if TYPE_CHECKING:
    from ..model.arrays import Floats
    from ..model.capture import Graph
    from ..model.config import ActivationScales, GemmaConfig
    from ..weights.linears import Weights


def target(settings: Settings) -> Target:
    return Target(
        name="coreml",
        extra="coreml",
        lower=partial(lower_graph, settings),
        stored_weights=stored_weights,
        stored_ranges=stored_ranges,
        scales_as_stored=scales_as_stored,
        runners=(
            Runner("coreml float32", open_float32, exact=True, slow=True),
            Runner("coreml float16", open_float16, half=True, slow=True),
        ),
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
    from .read import scales_as_stored

    return scales_as_stored(scales)


def open_float32(bundle: Bundle) -> Engine:
    from .engine import CoreMLEngine

    return CoreMLEngine.open(single_stage(bundle), "float32")


def open_float16(bundle: Bundle) -> Engine:
    from .engine import CoreMLEngine

    return CoreMLEngine.open(bundle, "float16")


TARGET = target(Settings())
