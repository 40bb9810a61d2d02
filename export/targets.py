"""Target name -> lowering, reader and decoders.  `ls export/to_*` is the list."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runtime.bundle.bundle import Bundle
from runtime.engine.contract import Engine
from runtime.engine.engine import open_engine
from runtime.errors import GemmaError
from runtime.needs import needs

Lower = Callable[..., Any]
EXTRAS = {"coreml": "coreml", "executorch": "executorch"}  # by target; each brings those of `export` too


@dataclass(frozen=True)
class Runner:
    """One way to run an artifact: a line of parity.json.

    exact: it computes in float32: without the second stage of a head, whose choice of what to compute again
        is no matter of rounding, it differs from its integers by no more than that; what ships has the gates
    half: it computes in float16, which a gate allows for
    slow: every call makes floats of all weights, so that a large model is compared in few places
    small: for a large model it costs more than it tells
    """

    name: str
    open: Callable[[Bundle], Engine]
    exact: bool = False
    half: bool = False
    slow: bool = False
    small: bool = False


def available() -> list[str]:
    return sorted(path.name.removeprefix("to_") for path in Path(__file__).parent.glob("to_*"))


def load_targets(names: Sequence[str]) -> dict[str, Lower]:
    """Raises GemmaError for an unknown name (before importing any), or a package that is missing."""
    unknown = [name for name in names if name not in available()]
    if unknown or not names:
        raise GemmaError(f"unknown target: {', '.join(unknown) or 'none'}", f"choose from {', '.join(available())}")
    return {name: load_target(name) for name in names}


def load_target(name: str) -> Lower:
    lower: Lower = load(name, "lower").lower
    return lower


def longest(name: str, context: int) -> int:
    """Most positions of an artifact, of a model with a context."""
    return min(context, getattr(load(name, "lower"), "CONTEXT", context))


def load_part_lowerings(names: Sequence[str]) -> dict[str, Lower]:
    """Return `lower_part` of each of these targets that lowers parts."""
    able = [name for name in names if (Path(__file__).parent / f"to_{name}" / "part.py").is_file()]
    return {name: load(name, "part").lower_part for name in able}


def load_reader(name: str) -> Any:
    """The module that reads back what `to_NAME` stored: `stored_weights` and `kept_scales`."""
    return load(name, "read")


def runners(name: str) -> list[Runner]:
    """The ways to run an artifact; goldens are what the last one answers."""
    if name == "coreml":
        decoder = load(name, "engine").CoreMLEngine.open
        return [
            Runner("coreml float32", partial(decoder, precision="float32"), exact=True, slow=True),
            Runner("coreml float16", partial(decoder, precision="float16"), half=True, slow=True),
        ]
    if name == "onnx":
        exact = load(name, "exact").open_exact
        return [Runner("onnx exact", exact, exact=True, small=True), Runner(name, partial(open_engine, name))]
    return [Runner(name, partial(open_engine, name))]


def load(name: str, module: str) -> Any:
    """Raises GemmaError if a package that a target needs is missing."""
    with quiet():
        return needs(f"export.to_{name}.{module}", EXTRAS.get(name, "export"), f"target {name}")


@contextmanager
def quiet() -> Iterator[None]:
    """Without what packages say of their own parts while they are imported, and of the packages beside them."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
