"""Every tensor of a folder, from the file that transformers reads it from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import GemmaError

from .stored_tensor import DTYPES, INTEGERS, Entry, entries_of
from .weight_files import weight_files, weight_map

PIECE = 8192  # rows compared at a time


def weight_entries(folder: Path, raw: Mapping[str, Any]) -> dict[str, Entry]:
    """Every tensor by its released name.

    Raises GemmaError for files that are not there, and for a tensor that stands in two of them with different
    values where transformers reads another than the index names.
    """
    files = weight_files(folder, raw)
    named = weight_map(folder, raw) if len(files) > 1 else {}
    found: dict[str, Entry] = {}
    for file in files:
        for name, entry in entries_of(file):
            found[name] = chosen(found[name], entry, named.get(name, file.name)) if name in found else entry
    return found


def chosen(earlier: Entry, later: Entry, named: str) -> Entry:
    """Of two with one name: transformers reads the later, in the order of the files' names."""
    if named == earlier.file.name and not alike(earlier, later):
        raise GemmaError(
            f"{later.origin}: another tensor than that of {named}, where the index says it is",
            "delete the file that does not belong to this checkpoint, or save the model again",
        )
    return later


def alike(a: Entry, b: Entry) -> bool:
    if (a.shape, a.dtype) != (b.shape, b.dtype) or a.dtype not in DTYPES | INTEGERS:
        return False
    rows = a.shape[0] if a.shape else 1
    with a.opened() as one, b.opened() as other:
        pieces = (slice(start, start + PIECE) for start in range(0, rows, PIECE))
        return all(np.array_equal(one[piece], other[piece]) for piece in pieces)
