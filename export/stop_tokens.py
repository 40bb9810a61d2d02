"""Where answers end: what any file of a checkpoint says, and tokens whose names say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Pieces

from runtime.errors import GemmaError

from .config import text_part
from .read_json import optional_json, read_json

DEFAULT = 1  # of the text model's configuration class
# Ends of a turn, and the beginning of a tool's answer, which the application writes: in the templates of Gemma 4,
# Gemma 3, and those that people train instead.
BY_NAME = ("<turn|>", "<end_of_turn>", "<|tool_response>", "<|im_end|>", "<|eot_id|>")


@dataclass(frozen=True)
class Stop:
    id: int
    text: str
    said_by: tuple[str, ...]


def stop_tokens(
    folder: Path, pieces: Pieces, special_tokens: Mapping[str, str], template: str | None, vocab: int
) -> list[Stop]:
    """Every token that ends an answer, once, in the order of who says so.

    A name counts where the chat template writes it: a base model has the same vocabulary, and no turns.

    Raises GemmaError for an id that is no token of the model.
    """
    config = read_json(folder, "config.json")
    said: dict[int, list[str]] = {}
    for where, ids in (
        ("generation_config.json", optional_json(folder, "generation_config.json").get("eos_token_id")),
        ("config.json", config.get("eos_token_id")),
        ("config.json", text_part(config).get("eos_token_id", DEFAULT)),
        ("tokenizer", pieces.token_to_id(special_tokens.get("eos_token", ""))),
        ("chat template", [pieces.token_to_id(name) for name in BY_NAME if name in (template or "")]),
    ):
        for token in listed(ids, where, folder):
            if where not in said.setdefault(token, []) and checked(token, where, folder, vocab):
                said[token].append(where)
    return [Stop(token, pieces.id_to_token(token) or "no text", tuple(by)) for token, by in said.items() if by]


def listed(ids: Any, where: str, folder: Path) -> list[int]:
    """One id, a list of them, or none."""
    try:
        return [int(each) for each in (ids if isinstance(ids, list) else [ids]) if each is not None]
    except (TypeError, ValueError) as error:
        raise GemmaError(f"{folder / where}: eos_token_id {ids!r}: {error}", "download the file again") from error


def checked(token: int, where: str, folder: Path, vocab: int) -> bool:
    """Whether the model can write a token: transformers takes ids beyond its vocabulary too, which never come."""
    if token < 0:
        raise GemmaError(f"{folder / where}: eos_token_id {token} is no token", "download the file again")
    return token < vocab


def sentence(stops: list[Stop]) -> str:
    return "answers end at " + ", ".join(f"{stop.text} ({stop.id}: {', '.join(stop.said_by)})" for stop in stops)
