"""Target name -> lowering, and how its artifact is read back and run.  `ls export/to_*.py` is the list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from runtime.bundle import Bundle
from runtime.engine import Engine, open_decoder
from runtime.errors import GemmaError

Lower = Callable[..., Any]
EXTRAS = {"onnx": "export"}  # others are named after their target


def available() -> list[str]:
    return sorted(path.stem.removeprefix("to_") for path in Path(__file__).parent.glob("to_*.py"))


def load_targets(names: Sequence[str]) -> dict[str, Lower]:
    """Raises GemmaError for an unknown name (before importing any), or a package that is missing."""
    unknown = [name for name in names if name not in available()]
    if unknown or not names:
        raise GemmaError(f"unknown target: {', '.join(unknown) or 'none'}", f"choose from {', '.join(available())}")
    return {name: load_target(name) for name in names}


def load_target(name: str) -> Lower:
    try:
        lower: Lower = import_module(f".to_{name}", __package__).lower
    except ModuleNotFoundError as error:
        raise GemmaError(
            f"target {name} needs the package {error.name}, which is not installed",
            f"pip install 'gemma-edge[{EXTRAS.get(name, name)}]'",
        ) from error
    return lower


def read_back(name: str, path: Path) -> Iterator[tuple[list[str], Iterator[tuple[int, Any]]]]:
    """Weights of an artifact, as read_onnx.stored_weights gives them."""
    found: Iterator[tuple[list[str], Iterator[tuple[int, Any]]]]
    found = import_module(f".read_{name}", __package__).stored_weights(path)
    return found


def decoder_of(name: str, bundle: Bundle) -> Engine:
    """What runs an artifact here, with the surface of runtime.decoder.Decoder."""
    return open_decoder(name, bundle)
