"""Which files of a folder hold its weights: as transformers decides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.errors import GemmaError

from ..read_json import read_json
from .other_kinds import refuse_other

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def weight_files(folder: Path, raw: Mapping[str, Any]) -> list[Path]:
    """Sorted; all are there."""
    names = weight_names(folder, raw)
    for name in names:
        if not (folder / name).is_file():
            refuse_other(folder, listing(folder), name)
    return [folder / name for name in names]


def weight_names(folder: Path, raw: Mapping[str, Any]) -> list[str]:
    """The one that config.json names; else model.safetensors; else those of an index.

    Raises GemmaError for names that are not of the folder.  A pickle is never read.
    """
    said = raw.get("transformers_weights")
    if said and not (str(said).endswith(".json") and (folder / plain(str(said), "config.json", folder)).is_file()):
        return [plain(str(said), "config.json", folder)]
    if not said and ((folder / WHOLE).is_file() or not (folder / INDEX).is_file()):
        return [WHOLE]
    return sorted({plain(name, "the index", folder) for name in weight_map(folder, raw).values()})


def weight_map(folder: Path, raw: Mapping[str, Any]) -> dict[str, str]:
    """What the index says, empty without one: a tensor's file by its name."""
    index = plain(str(raw.get("transformers_weights") or INDEX), "config.json", folder)
    if not index.endswith(".json") or not (folder / index).is_file():
        return {}
    where = read_json(folder, index).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise GemmaError(f"{folder / index} has no weight_map", "download the file again")
    return {str(name): str(file) for name, file in where.items()}


def unread_index(folder: Path, raw: Mapping[str, Any]) -> bool:
    """Whether an index lies beside weights that are whole without it."""
    return (folder / INDEX).is_file() and weight_names(folder, raw) == [WHOLE]


def plain(name: str, namer: str, folder: Path) -> str:
    """Return a name, which `namer` says.  Raises GemmaError for one that leads out of the folder."""
    if Path(name).name != name:
        raise GemmaError(
            f"{folder}: {namer} names the file {name!r}, which is not in the folder", "download the checkpoint again"
        )
    return name


def listing(folder: Path) -> set[str]:
    """Names of files, and of folders with a slash behind them."""
    return {f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir()}
