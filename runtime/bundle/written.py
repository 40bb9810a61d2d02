"""Structs as the JSON of a bundle: two spaces, a line break at the end."""

from __future__ import annotations

from typing import Any

import msgspec

LATER = ("parts",)  # fields that came after 1.0: left out where they are empty, so that such bundles keep their bytes


def fields_of(value: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a struct as plain values, without the later ones that are empty."""
    fields: dict[str, Any] = msgspec.to_builtins(value)
    return {name: content for name, content in fields.items() if content or name not in LATER}


def written(value: msgspec.Struct) -> bytes:
    """Return a struct as indented JSON, as bundle.json, parity.json and golden.json hold it."""
    return msgspec.json.format(msgspec.json.encode(fields_of(value)), indent=2) + b"\n"
