"""A tool call as the released template writes it; names that can not stand bare are written between quote tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..language.control_tokens import QUOTE

# What `call_syntax` reads back as it stands: no space around it, nothing that ends or quotes a name.
BARE_NAME = re.compile(r"[^\s:,{}\[\]\"'](?:[^:,{}\[\]]*[^\s:,{}\[\]])?")
Pieces = Iterator[str | None]  # texts, and None for the quote token


def render_call(name: str, arguments: Mapping[str, Any]) -> str:
    return f"call:{name}{render_value(arguments)}"


def render_value(value: Any) -> str:
    return "".join(QUOTE if piece is None else piece for piece in value_pieces(value))


def value_pieces(value: Any) -> Pieces:
    if isinstance(value, str):
        yield from quoted(value)
    elif isinstance(value, Mapping):
        yield "{"
        for index, (name, item) in enumerate(in_order(value)):
            yield "," if index else ""
            yield from name_pieces(name)
            yield ":"
            yield from value_pieces(item)
        yield "}"
    elif isinstance(value, (list, tuple)):
        yield "["
        for index, item in enumerate(value):
            yield "," if index else ""
            yield from value_pieces(item)
        yield "]"
    else:
        yield (
            {None: "null", True: "true", False: "false"}[value]
            if value is None or value is True or value is False
            else str(value)
        )


def quoted(text: str) -> Pieces:
    yield from (None, text, None)


def name_pieces(name: str) -> Pieces:
    if BARE_NAME.fullmatch(name) and QUOTE not in name:
        yield name
    else:
        yield from quoted(name)


def in_order(mapping: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Sorted without regard to case, as the template's dictsort does."""
    return sorted(mapping.items(), key=lambda item: item[0].lower())
