"""Texts of special tokens by the names that chat templates read, as transformers' tokenizer gives them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.errors import GemmaError

from ..read_json import optional_json

# Of the class GemmaTokenizer, for names that are not said.
OF_GEMMA = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
STANDARD = (*OF_GEMMA, "sep_token", "cls_token")
MORE = ("extra_special_tokens", "model_specific_special_tokens")  # objects of more names


def special_tokens(folder: Path) -> dict[str, str]:
    """Read texts by name, as "eos_token"; there are none where no file says any and the tokenizer's class has none.

    Raises GemmaError for a special token that is no text.
    """
    config = optional_json(folder, "tokenizer_config.json")
    said = named(config, "tokenizer_config.json", folder)
    if "added_tokens_decoder" not in config:  # as of older versions, which wrote the next file too
        said |= named(optional_json(folder, "special_tokens_map.json"), "special_tokens_map.json", folder)
    defaults: dict[str, str | None] = dict(OF_GEMMA) if is_gemma_tokenizer(config, folder) else {}
    return {name: text for name, text in (defaults | said).items() if text is not None}


def is_gemma_tokenizer(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether the class that is named, or that transformers takes for the model, is Gemma's."""
    named_class = config.get("tokenizer_class")
    if named_class:
        return str(named_class).removesuffix("Fast") == "GemmaTokenizer"
    return str(optional_json(folder, "config.json").get("model_type")).startswith("gemma3")


def named(config: Mapping[str, Any], file: str, folder: Path) -> dict[str, str | None]:
    """What a file says; None for a standard name that it says has no token."""
    pairs = [(name, value) for name, value in config.items() if name.endswith("_token") and not name.startswith("add_")]
    for more in MORE:
        pairs += config[more].items() if isinstance(config.get(more), dict) else []
    texts = {name: text_of(value) for name, value in pairs}
    wrong = [(name, value) for name, value in pairs if value is not None and texts[name] is None]
    if wrong:
        name, value = wrong[0]
        raise GemmaError(f"{folder / file}: {name} must be a text, not {value!r}", "download the file again")
    return {name: text for name, text in texts.items() if text is not None or name in STANDARD}


def text_of(value: Any) -> str | None:
    """The text of a token, which may stand in an object with how it is matched."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None
