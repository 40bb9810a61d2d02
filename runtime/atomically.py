"""A file is written beside its place, then renamed: a reader sees all of the old one or all of the new one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the name `path` if the block ends well, and is removed if not.

    Raises OSError where the disk refuses.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
