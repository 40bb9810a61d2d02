"""Bundles of generated weights that `bench --shape` made, in the user's cache folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ..bundle.bundle import MANIFEST


def cache_folder() -> Path:
    """`gemma-edge` below $XDG_CACHE_HOME, which must be absolute to count, or below ~/.cache."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache_home if cache_home.is_absolute() else Path.home() / ".cache") / "gemma-edge"


def cached() -> list[tuple[Path, int]]:
    """Every bundle and its bytes."""
    folders = sorted(path.parent for path in cache_folder().glob(f"*.bundle/{MANIFEST}"))
    return [(folder, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())) for folder in folders]


def clean() -> int:
    """Remove what `cached` lists, and what a killed run left; bytes that are free again."""
    folders = cached()
    for left in cache_folder().glob("*.bundle"):
        shutil.rmtree(left)
    for left in cache_folder().glob(".*.bundle.*"):
        shutil.rmtree(left)
    return sum(size for _, size in folders)
