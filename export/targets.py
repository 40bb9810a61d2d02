"""Target name -> lowering.  `ls export/to_*.py` is the list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from runtime.errors import GemmaError

Lower = Callable[..., Any]


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
            f"target {name} needs the package {error.name}, which is not installed", "pip install 'gemma-edge[export]'"
        ) from error
    return lower
