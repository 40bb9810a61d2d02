"""Texts that UTF-8 can write: in JSON's escapes and Python's strings half of a character may stand, in UTF-8 none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import RequestError

HALF = re.compile("[\ud800-\udfff]")  # a surrogate, which means a character only beside another in UTF-16


def check_whole(value: Any, what: str) -> None:
    """Raises GemmaError for half of a character in a text, in lists and mappings too, and for values too deep."""
    try:
        half = first_half(value)
    except RecursionError as error:
        raise RequestError(f"{what}: values are nested too deeply", "make them flatter") from error
    if half:
        raise RequestError(
            f"{what}: {half!r} is half of a character (a surrogate), which no tokenizer reads",
            "write the character itself, or both halves as JSON's escapes",
        )


def first_half(value: Any) -> str:
    """Empty where all texts are whole; names of a mapping are texts too."""
    if isinstance(value, str):
        half = HALF.search(value)
        return half[0] if half else ""
    if isinstance(value, Mapping):
        return first_half([*value, *value.values()])
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return next(filter(None, map(first_half, value)), "")
    return ""
