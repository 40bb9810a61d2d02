"""A target is a way to store a model for an engine: what writes its artifact, reads it back and runs it.

Each folder `to_NAME` says `TARGET = Target(...)` in its `__init__.py`, and is found by its name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runtime.bundle.bundle import Bundle
from runtime.bundle.manifest import Artifact
from runtime.engine.contract import Engine
from runtime.errors import GemmaError
from runtime.needs import needs

if TYPE_CHECKING:
    from .model.arrays import Floats
    from .model.capture import Graph
    from .model.config import ActivationScales, GemmaConfig
    from .parts.source import PartGraph, PartSource
    from .weights.linears import Weights


@dataclass(frozen=True)
class Runner:
    """One way to run an artifact: a line of parity.json.

    open: the engine, over a bundle that need not be sealed
    exact: it computes in float32 and without the second stage of the head, so that it may differ from what the
        integers stand for by 1e-3 at most; the recipe's gates are for the other runners
    half: it computes in float16, which a gate allows for
    slow: every call makes floats of all weights, so that a large model is compared in few places
    small: it runs small models only; for a large one it costs more than it tells
    """

    name: str
    open: Callable[[Bundle], Engine]
    exact: bool = False
    half: bool = False
    slow: bool = False
    small: bool = False


@dataclass(frozen=True)
class Target:
    """How a captured model becomes an artifact, and how that is proved.

    extra: what `pip install gemma-edge[…]` has to name for the packages that it needs
    lower: writes the artifact of a graph and its weights below a folder
    stored_weights: reads the artifact's file back: for each matrix of integers its parameters, and pieces of
        (number of the first row, values (n, inputs) float32)
    stored_ranges: reads back the static ranges around each linear, by its label
    scales_as_stored: what the artifact makes of decided scales
    runners: all ways to run the artifact; the last one gives the golden answers
    lower_part: writes the artifact of a part, in a place below a folder; None where the target lowers none
    context: the most positions of an artifact; None: as many as the model has
    with_context: the same target for another number of positions; None where the context is the model's
    """

    name: str
    extra: str
    lower: Callable[[Graph, Weights, Path], Artifact]
    stored_weights: Callable[[Path], Iterator[tuple[list[str], Iterator[tuple[int, Floats]]]]]
    stored_ranges: Callable[[Path, GemmaConfig], Iterator[tuple[str, ActivationScales]]]
    scales_as_stored: Callable[[Floats], Floats]
    runners: tuple[Runner, ...]
    lower_part: Callable[[PartSource, PartGraph, Path, str], Artifact] | None = None
    context: int | None = None
    with_context: Callable[[int], Target] | None = None

    def longest(self, context: int) -> int:
        """The most positions of an artifact of a model that has `context`."""
        return min(context, self.context or context)


def available() -> list[str]:
    return sorted(path.name.removeprefix("to_") for path in Path(__file__).parent.glob("to_*"))


def load_targets(wanted: Sequence[str | Target]) -> dict[str, Target]:
    """Targets by name, whose packages are all there; what is given by name alone has its usual settings.

    Raises GemmaError for an unknown name (before importing any), or a package that is missing.
    """
    unknown = [name for name in wanted if isinstance(name, str) and name not in available()]
    if unknown or not wanted:
        raise GemmaError(f"unknown target: {', '.join(unknown) or 'none'}", f"choose from {', '.join(available())}")
    targets = [find_target(target) if isinstance(target, str) else target for target in wanted]
    for target in targets:
        check_packages(target)
    return {target.name: target for target in targets}


def find_target(name: str) -> Target:
    """The target of a folder `to_NAME`; its packages are not imported."""
    target = import_module(f".to_{name}", __package__).TARGET
    if not isinstance(target, Target):
        raise TypeError(f"to_{name}.TARGET is {target!r}, not a Target")
    return target


def check_packages(target: Target) -> None:
    """Import what a target lowers with.  Raises NotInstalled if a package is missing."""
    with quiet():
        needs(f"export.to_{target.name}.lower", target.extra, f"target {target.name}")


def single_stage(bundle: Bundle) -> Bundle:
    """A bundle whose head has no second stage: its logits are the graph's alone."""
    model = msgspec.structs.replace(bundle.manifest.model, rescored=0)
    return Bundle(bundle.folder, msgspec.structs.replace(bundle.manifest, model=model))


@contextmanager
def quiet() -> Iterator[None]:
    """Packages log nothing about themselves, and the packages beside them, while they are imported."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
