"""Every tensor of a folder, from the file that transformers reads it from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.errors import GemmaError

from .same_values import same_values
from .stored import FileEntry, entries_of
from .weight_files import weight_files, weight_map


def weight_entries(folder: Path, raw: Mapping[str, Any]) -> dict[str, FileEntry]:
    """Every tensor by its released name.

    Raises GemmaError for files that are not there, and for a tensor that stands in two of them with different
    values where transformers reads another than the index names.
    """
    files = weight_files(folder, raw)
    named = weight_map(folder, raw) if len(files) > 1 else {}
    entries: dict[str, FileEntry] = {}
    for file in files:
        for name, entry in entries_of(file):
            entries[name] = chosen(entries[name], entry, named.get(name, file.name)) if name in entries else entry
    return entries


def chosen(earlier: FileEntry, later: FileEntry, named: str) -> FileEntry:
    """Take one of two with one name: transformers reads the later, in the order of the files' names."""
    if named == earlier.file.name and not same_values(earlier, later):
        raise GemmaError(
            f"{later.origin} differs from the tensor of the same name in {named}, where the index says it is",
            "delete the file that does not belong to this checkpoint, or save the model again",
        )
    return later
