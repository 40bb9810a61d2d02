"""Forms that an answer can be held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class JsonSchema:
    """An answer in JSON that the schema describes."""

    schema: Mapping[str, Any]


@dataclass(frozen=True)
class Regex:
    """An answer that the pattern matches as a whole."""

    pattern: str


@dataclass(frozen=True)
class Choice:
    """One of some answers."""

    choices: Sequence[str]


ResponseFormat = JsonSchema | Regex | Choice
