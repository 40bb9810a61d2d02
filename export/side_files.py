"""What a bundle takes from a checkpoint besides its weights: tokenizer, template, generation defaults."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Pieces

from runtime.errors import GemmaError
from runtime.manifest import Generation
from runtime.tokenizer import read_pieces, read_template

from .checkpoint import Checkpoint
from .read_json import read_json


def check_side_files(folder: Path) -> Pieces:
    """The tokenizer.  Raises GemmaError for what would be refused after the long part of an export."""
    pieces = read_pieces(tokenizer_file(folder))
    chat_template(folder)
    generation(folder)
    return pieces


def tokenizer_file(folder: Path) -> Path:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise GemmaError(f"{folder}: no tokenizer.json", "download it from the checkpoint's page")
    return path


def copy_tokenizer(checkpoint: Checkpoint, folder: Path) -> tuple[str, str]:
    """The names of tokenizer and chat template in the bundle; the latter is empty for a base model."""
    shutil.copyfile(tokenizer_file(checkpoint.folder), folder / "tokenizer.json")
    template = chat_template(checkpoint.folder)
    if template is None:
        return "tokenizer.json", ""
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return "tokenizer.json", "chat_template.jinja"


def chat_template(folder: Path) -> str | None:
    """The file of newer checkpoints, or the field of tokenizer_config.json of older ones."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return read_template(path)
    if (folder / "tokenizer_config.json").is_file():
        found = read_json(folder, "tokenizer_config.json").get("chat_template")
        return found if isinstance(found, str) else None
    return None


def generation(folder: Path) -> Generation:
    """generation_config.json, with config.json for what it leaves out.

    Raises GemmaError for a value of the wrong type.
    """
    config = read_json(folder, "config.json")
    text = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    made: dict[str, Any] = {}
    if (folder / "generation_config.json").is_file():
        made = read_json(folder, "generation_config.json")
    stop = made.get("eos_token_id", config.get("eos_token_id", text.get("eos_token_id", 1)))
    try:
        return Generation(
            bos=int(made.get("bos_token_id", text.get("bos_token_id", 2))),
            stop=[int(i) for i in (stop if isinstance(stop, list) else [stop])],
            do_sample=bool(made.get("do_sample", False)),
            temperature=float(made.get("temperature") or 1.0),
            top_k=int(made.get("top_k") or 0),
            top_p=float(made.get("top_p") or 1.0),
        )
    except (TypeError, ValueError) as error:
        raise GemmaError(f"{folder / 'generation_config.json'}: {error}", "download the file again") from error
