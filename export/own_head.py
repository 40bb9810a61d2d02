"""The head: the token table, or a matrix of its own where the checkpoint stores one that differs.

As transformers 5.23 decides (modeling_utils.tie_weights): a stored head with values of its own is never tied,
whatever config.json says; one with the table's values is the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from runtime.errors import GemmaError

from .config import GemmaConfig
from .packed_tensor import PackedEntry
from .stored_tensor import DTYPES, INTEGERS, Stored, as_torch
from .tensors import HEAD, TABLE, our_name

PIECE = 8192  # rows that are compared at a time
SPELLINGS = {"gemma4": re.compile(r"model\.(?=lm_head\.)"), "gemma3": re.compile(r"(?:language_)?model\.(?=lm_head\.)")}


def with_named_head(found: Mapping[str, Stored], config: GemmaConfig, where: str) -> dict[str, Stored]:
    """Tensors by released name, those of the head under one name.  Raises GemmaError for two of one name."""
    named: dict[str, Stored] = {}
    for released, entry in found.items():
        name = SPELLINGS[config.family].sub("", released, count=1) if "lm_head." in released else released
        if name in named:
            raise GemmaError(f"{where}: {name} is there twice, as {named[name].released} and as {released}", "keep one")
        named[name] = entry
    return named


def with_table(found: Mapping[str, Stored], raw: Mapping[str, Any], where: str) -> dict[str, Stored]:
    """Tensors by released name, of which a tied model may have stored the head instead of the table.

    Raises GemmaError for a model that is not tied and has no head; transformers would draw one at random.
    """
    tied, tables = bool(raw.get("tie_word_embeddings", True)), [name for name in found if our_name(name) == TABLE]
    if not tied and HEAD not in found:
        raise GemmaError(
            f"{where}: config.json has tie_word_embeddings false, and the checkpoint has no {HEAD}",
            "give the whole checkpoint, or set it to true if the head is the token table",
        )
    if tied and not tables and HEAD in found and not isinstance(found[HEAD], PackedEntry):
        return {f"model.{TABLE}" if name == HEAD else name: entry for name, entry in found.items()}
    return dict(found)


def own_head(found: Mapping[str, Stored]) -> bool:
    """Whether there is a head whose values are not those of the table; both are read as far as they are equal."""
    table = next((entry for name, entry in found.items() if our_name(name) == TABLE), None)
    head = found.get(HEAD)
    return head is not None and (table is None or not equal(head, table))


def equal(a: Stored, b: Stored) -> bool:
    """Of one shape, with the same values in dtypes that may differ; integers with the same scales."""
    if isinstance(a, PackedEntry) and isinstance(b, PackedEntry):
        return a.scheme == b.scheme and equal(a.codes, b.codes) and equal(a.scales, b.scales)
    readable = DTYPES.keys() | INTEGERS.keys()
    if a.shape != b.shape or not a.shape or isinstance(a, PackedEntry) or isinstance(b, PackedEntry):
        return False
    if not {a.dtype, b.dtype} <= readable:
        return False
    with a.opened() as rows, b.opened() as others:
        return all(equal_values(rows[at : at + PIECE], others[at : at + PIECE]) for at in range(0, a.shape[0], PIECE))


def equal_values(a: NDArray[Any], b: NDArray[Any]) -> bool:
    x, y = as_torch(a), as_torch(b)
    return torch.equal(x, y) if x.dtype == y.dtype else torch.equal(x.float(), y.float())
