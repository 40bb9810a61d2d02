"""The head: the token table, or a matrix of its own where the checkpoint stores one that differs.

As transformers 5.23 decides (modeling_utils.tie_weights): a stored head with values of its own is never tied,
whatever config.json says; one with the table's values is the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from runtime.errors import GemmaError

from ..model.config import GemmaConfig, tied
from ..model.tensors import HEAD, TABLE, our_name
from .packed import PackedEntry
from .same_values import same_values
from .stored import TensorEntry

SPELLINGS = {"gemma4": re.compile(r"model\.(?=lm_head\.)"), "gemma3": re.compile(r"(?:language_)?model\.(?=lm_head\.)")}


def with_named_head(tensors: Mapping[str, TensorEntry], config: GemmaConfig, where: str) -> dict[str, TensorEntry]:
    """Tensors by released name, those of the head under one name.  Raises GemmaError for two of one name."""
    named: dict[str, TensorEntry] = {}
    for source_name, entry in tensors.items():
        name = SPELLINGS[config.family].sub("", source_name, count=1) if "lm_head." in source_name else source_name
        if name in named:
            raise GemmaError(
                f"{where}: {name} is stored twice, as {named[name].source_name} and as {source_name}",
                "keep one of the two",
            )
        named[name] = entry
    return named


def with_table(tensors: Mapping[str, TensorEntry], raw: Mapping[str, Any], where: str) -> dict[str, TensorEntry]:
    """Tensors by released name, of which a tied model may have stored the head instead of the table.

    Raises GemmaError for a model that is not tied and has no head; transformers would draw one at random.
    """
    tables = [name for name in tensors if our_name(name) == TABLE]
    if not tied(raw) and HEAD not in tensors:
        raise GemmaError(
            f"{where}: config.json has tie_word_embeddings false, and the checkpoint has no {HEAD}",
            "give the whole checkpoint, or set it to true if the head is the token table",
        )
    if tied(raw) and not tables and HEAD in tensors and not isinstance(tensors[HEAD], PackedEntry):
        return {f"model.{TABLE}" if name == HEAD else name: entry for name, entry in tensors.items()}
    return dict(tensors)


def own_head(tensors: Mapping[str, TensorEntry]) -> bool:
    """Whether there is a head whose values are not those of the table; both are read as far as they are equal."""
    table = next((entry for name, entry in tensors.items() if our_name(name) == TABLE), None)
    head = tensors.get(HEAD)
    return head is not None and (table is None or not same_values(head, table))
