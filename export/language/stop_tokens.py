"""Where answers end: what any file of a checkpoint says, and tokens whose names say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Pieces

from runtime.errors import GemmaError

from ..model.config import text_part
from ..read_json import optional_json, read_json

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

    Ids beyond the vocabulary, which never come, are left out.  Raises GemmaError for what is no id.
    """
    config = read_json(folder, "config.json")
    said: dict[int, list[str]] = {}
    sources = (
        ("generation_config.json", optional_json(folder, "generation_config.json").get("eos_token_id")),
        ("config.json", config.get("eos_token_id")),
        ("config.json", text_part(config).get("eos_token_id", DEFAULT)),
        ("tokenizer", pieces.token_to_id(special_tokens.get("eos_token", ""))),
        ("chat template", [pieces.token_to_id(name) for name in BY_NAME if name in (template or "")]),
    )
    for where, ids in sources:
        for token in listed(ids, where, folder):
            if token < vocab and where not in said.setdefault(token, []):
                said[token].append(where)
    return [Stop(token, pieces.id_to_token(token) or "no text", tuple(by)) for token, by in said.items()]


def listed(ids: Any, where: str, folder: Path) -> list[int]:
    """One id, a list of them, or none."""
    try:
        tokens = [int(token) for token in (ids if isinstance(ids, list) else [ids]) if token is not None]
    except (TypeError, ValueError, OverflowError) as error:
        raise GemmaError(f"{folder / where}: eos_token_id {ids!r}: {error}", "download the file again") from error
    if min(tokens, default=0) < 0:
        raise GemmaError(f"{folder / where}: eos_token_id {ids!r} is not a token", "download the file again")
    return tokens


def sentence(stops: list[Stop]) -> str:
    if not stops:
        return "no token ends an answer: say eos_token_id in generation_config.json"
    return "answers end at " + ", ".join(f"{stop.text} ({stop.id}: {', '.join(stop.said_by)})" for stop in stops)
