"""A JSON object of a checkpoint's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runtime.errors import GemmaError


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Raises GemmaError for a file that is not there, is not JSON, or holds something else."""
    path = folder / name
    if not path.is_file():
        raise GemmaError(f"{folder} has no {name}", "give a checkpoint's folder, as released on the hub")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise GemmaError(f"{path} is not JSON: {error}", "download the file again") from error
    if not isinstance(fields, dict):
        raise GemmaError(f"{path} must hold a JSON object, not a {type(fields).__name__}", "download the file again")
    return fields


def optional_json(folder: Path, name: str) -> dict[str, Any]:
    """Empty for a file that is not there.  Raises GemmaError as `read_json`."""
    return read_json(folder, name) if (folder / name).is_file() else {}
