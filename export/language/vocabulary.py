"""tokenizer.json to the compact vocabulary that applications read (FORMAT.md, "Compact vocabulary")."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.vocabulary import (
    ADDED,
    BYTE,
    CONTROL,
    HEADER,
    MAGIC,
    MARK,
    NORMAL,
    SPACE,
    VERSION,
    WHOLE,
    WORDS,
    Vocabulary,
)
from runtime.language.check_vocabulary import check_equal
from runtime.language.tokenizer import read_pieces

from ..model.arrays import Ids
from ..read_json import read_json

NAME = "vocabulary.bin"
MARKED = {"type": "Replace", "pattern": {"String": SPACE}, "content": MARK}
PARTS = {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": MARK}, "content": SPACE}, {"type": "ByteFallback"}, {"type": "Fuse"},
]}  # fmt: skip
WORD = f"{MARK}?[^{MARK}\n]+|\n|{MARK}+"  # as the sample is trained
BPE = {
    "type": "BPE", "byte_fallback": True, "dropout": None, "ignore_merges": False,
    "continuing_subword_prefix": None, "end_of_word_suffix": None,
}  # fmt: skip
PLAIN = ("single_word", "lstrip", "rstrip", "normalized")


def write_vocabulary(folder: Path) -> str:
    """Write the vocabulary beside `folder`'s tokenizer.json, read it back and compare; its name in the bundle.

    "", and a line on standard error, if the tokenizer is of another kind: applications refuse such a bundle.
    Raises GemmaError if what was written reads a text in another way than tokenizer.json.
    """
    tokenizer = read_json(folder, "tokenizer.json")
    if reason := other_kind(tokenizer):
        print(f"warning: no compact vocabulary: {reason}; applications can not read this bundle", file=sys.stderr)
        return ""
    path = folder / NAME
    path.write_bytes(packed(tokenizer))
    check_equal(Vocabulary.open(path), read_pieces(folder / "tokenizer.json"), path)
    return NAME


def other_kind(tokenizer: dict[str, Any]) -> str:
    """What the format can not say of a tokenizer; "" if it can say all."""
    model = tokenizer.get("model") or {}
    other = [name for name, value in BPE.items() if (model.get(name) or None) != (value or None)]
    if other:
        return f"its model has another {other[0]}"
    if tokenizer.get("normalizer") != MARKED or tokenizer.get("decoder") != PARTS:
        return "its normalizer or its decoder is not Gemma's"
    if splitting(tokenizer.get("pre_tokenizer")) is None:
        return f"its pre-tokenizer is {tokenizer.get('pre_tokenizer')!r:.80}"
    names = numbered(tokenizer)
    if sorted(names.values()) != list(range(len(names))):
        return "its ids are not 0 to their number"
    if any(byte_name(byte) not in names for byte in range(256)):
        return "it does not have all 256 bytes"
    if any(token.get(flag) for token in tokenizer["added_tokens"] for flag in PLAIN):
        return "an added token strips spaces or is normalized"
    return ""


def splitting(pre_tokenizer: dict[str, Any] | None) -> int | None:
    """How a normalized text is cut before it is merged; None: in a way that the format does not know."""
    if pre_tokenizer is None:
        return WHOLE
    pattern = pre_tokenizer.get("pattern") or {}
    if pre_tokenizer.get("type") != "Split" or pre_tokenizer.get("invert"):
        return None
    if pattern == {"String": SPACE}:  # the normalizer leaves no spaces
        return WHOLE
    return WORDS if pattern == {"Regex": WORD} and pre_tokenizer.get("behavior") == "Isolated" else None


def numbered(tokenizer: dict[str, Any]) -> dict[str, int]:
    """Ids of all pieces, the added ones among them."""
    return {**tokenizer["model"]["vocab"], **{token["content"]: token["id"] for token in tokenizer["added_tokens"]}}


def byte_name(byte: int) -> str:
    return f"<0x{byte:02X}>"


def packed(tokenizer: dict[str, Any]) -> bytes:
    names, merges = numbered(tokenizer), tokenizer["model"]["merges"]
    pieces = [name.encode() for name, _ in sorted(names.items(), key=lambda item: item[1])]
    offsets = np.cumsum([0, *map(len, pieces)])
    characters = sorted((ord(name), token) for name, token in tokenizer["model"]["vocab"].items() if len(name) == 1)
    added = sorted(token["id"] for token in tokenizer["added_tokens"])
    first, table = merge_table(names, [merge.split(" ") if isinstance(merge, str) else merge for merge in merges])
    types = types_of(names, tokenizer["added_tokens"]).tobytes()
    counts = (len(pieces), len(characters), len(added), len(merges), int(offsets[-1]))
    how = splitting(tokenizer.get("pre_tokenizer"))
    assert how is not None  # other_kind said so
    arrays = (characters, [names[byte_name(byte)] for byte in range(256)], added, first, table)
    return b"".join(
        (
            HEADER.pack(MAGIC, VERSION, *counts, how, 0),
            np.array(offsets, "<u4").tobytes(),
            types + bytes(-len(types) % 4),
            *(np.array(array, "<u4").tobytes() for array in arrays),
            *pieces,
        )
    )


def types_of(names: dict[str, int], added: Sequence[dict[str, Any]]) -> NDArray[np.uint8]:
    types = np.full(len(names), NORMAL, np.uint8)
    types[[names[byte_name(byte)] for byte in range(256)]] = BYTE
    for token in added:
        types[token["id"]] = CONTROL if token["special"] else ADDED
    return types


def merge_table(names: dict[str, int], merges: Sequence[Sequence[str]]) -> tuple[Ids, Ids]:
    """first (pieces + 1) and (merges, 3): right half, rank, product, by left and then right half."""
    rows = [(names[left], names[right], names[left + right]) for left, right in merges]
    left, right, product = np.array(rows, np.int64).reshape(-1, 3).T
    order = np.lexsort((right, left))
    first = np.concatenate(([0], np.cumsum(np.bincount(left, minlength=len(names)))))
    return first, np.stack((right[order], order, product[order]), 1)
