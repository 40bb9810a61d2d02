"""Where a checkpoint is: a folder, or an id of the hub."""

from __future__ import annotations

import re
from pathlib import Path

from runtime.errors import GemmaError

from .download import download
from .other_kinds import refuse_adapter, refuse_file, refuse_other
from .weight_files import listing

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def locate(source: str | Path) -> Path:
    """A folder that has a config.json; a hub id is downloaded (and resumed where it broke off).

    Raises GemmaError for anything else, with what it is instead.
    """
    folder = Path(source)
    if folder.is_dir():
        names = listing(folder)
        refuse_adapter(folder, names)
        if "config.json" not in names:
            refuse_other(folder, names, "config.json")
        return folder
    if folder.exists():
        refuse_file(folder)
    if not HUB_ID.fullmatch(str(source)) or str(source).startswith("."):
        raise GemmaError(
            f"there is no folder {source}", "give a checkpoint's folder, or a hub id such as google/gemma-4-E2B-it"
        )
    return download(str(source))
