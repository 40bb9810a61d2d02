"""Forms that an answer can be held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import RequestError


@dataclass(frozen=True)
class JsonSchema:
    """An answer in JSON that the schema describes."""

    schema: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Raises RequestError for what is no object."""
        if not isinstance(self.schema, Mapping):
            raise RequestError(f"a JsonSchema takes a dict, not {self.schema!r:.40}", 'give {"type": ...}')


@dataclass(frozen=True)
class Regex:
    """An answer that the pattern matches as a whole."""

    pattern: str

    def __post_init__(self) -> None:
        """Raises RequestError for what is no text; whether it is a pattern is asked when an answer needs it."""
        if not isinstance(self.pattern, str):
            raise RequestError(f"a Regex takes a text, not {self.pattern!r:.40}", 'give a pattern, such as "[0-9]+"')


@dataclass(frozen=True)
class Choice:
    """One of some answers."""

    choices: Sequence[str]

    def __post_init__(self) -> None:
        """Raises RequestError for what is no list of texts, and for one that is empty."""
        if not is_texts(self.choices):
            raise RequestError(f"a Choice takes a list of texts, not {self.choices!r:.40}", 'give ["yes", "no"]')
        if not self.choices or not all(self.choices):
            raise RequestError(
                f"the choices {list(self.choices)!r:.80} are empty, or one of them is",
                "give at least one choice, none empty",
            )


ResponseFormat = JsonSchema | Regex | Choice


def is_texts(value: object) -> bool:
    """Whether a value is a list of texts; a text is none."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str | bytes)
        and all(isinstance(text, str) for text in value)
    )
