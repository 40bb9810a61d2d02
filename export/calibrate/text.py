"""The text that calibrates: the user's file, or what the model writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from quantize.recipe import Recipe
from runtime.errors import GemmaError
from runtime.language.tokenizer import Tokenizer

from ..model.arrays import Ids
from ..reference import FloatSource
from .amounts import TextAmounts
from .speak import turn_texts, write

SEED = 0


@dataclass(frozen=True)
class Text:
    """Where a text comes from: "auto", or a file's name and the hash of its bytes."""

    origin: str
    path: Path | None = None

    @classmethod
    def of(cls, choice: str) -> Text:
        """Raises GemmaError for a file that can not be read."""
        if choice == "auto":
            return cls("auto")
        path = Path(choice)
        if not path.is_file():
            raise GemmaError(f"there is no file {choice} to calibrate with", "give auto, none, or a UTF-8 text file")
        return cls(f"{path.name} sha256:{sha256(path.read_bytes()).hexdigest()}", path)

    def tokens(self, recipe: Recipe, amounts: TextAmounts) -> int:
        """The most tokens that a recipe calibrates with."""
        return amounts.read(recipe.calibration) if self.path else amounts.written(recipe.calibration)


AUTO = Text("auto")


def sequences(
    text: Text,
    tokens: int,
    amounts: TextAmounts,
    source: FloatSource,
    tokenizer: Tokenizer,
    stop: list[int],
    progress: Callable[[float], None],
) -> Ids:
    """Write or read ids (n, T), about `tokens` of them.

    Raises GemmaError for a file that is not UTF-8 or too short.
    """
    length = min(amounts.window if text.path else amounts.sequence, source.config.context)
    if text.path is None:
        turns = turn_texts(tokenizer, stop)
        return write(source, turns, tokens // length, length, SEED, amounts.layer_bytes, progress)
    return windows_of(read(text.path, tokenizer), tokenizer.bos, tokens // length, length, text.path)


def read(path: Path, tokenizer: Tokenizer) -> list[int]:
    try:
        return tokenizer.encode(path.read_text(encoding="utf-8"), bos=False)
    except UnicodeDecodeError as error:
        raise GemmaError(f"{path} is not UTF-8: {error}", "give a text file") from error


def windows_of(ids: list[int], bos: int, wanted: int, length: int, path: Path) -> Ids:
    """Cut at most `wanted` windows, spread evenly over the text, each beginning with BOS."""
    count = len(ids) // length
    if not count:
        raise GemmaError(
            f"{path} has only {len(ids)} tokens, but one window needs {length}", "give a longer text, or auto"
        )
    windows = np.array(ids[: count * length], np.int64).reshape(count, length)
    chosen: Ids = windows[np.linspace(0, count - 1, min(count, wanted)).astype(int)]
    chosen[:, 0] = bos
    return chosen
