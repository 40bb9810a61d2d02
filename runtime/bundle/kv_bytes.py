"""Bytes of keys and values: how much a layer's cache takes, and how much a step reads of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

WIDTHS = {"float32": 4, "int8": 1}  # bytes of a value
SHOWN = (1024, 8192, 32768)  # contexts to show, besides the model's own


class KeyValueLayer(Protocol):
    """A layer that owns keys and values, (kv_heads, rows, head_dim) each: of a manifest, or of a config."""

    @property
    def kind(self) -> str: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...


def row_bytes(layer: KeyValueLayer, dtype: str) -> int:
    """The key and the value of one position take these bytes."""
    return 2 * WIDTHS[dtype] * layer.kv_heads * layer.head_dim


def rows_seen(layer: KeyValueLayer, window: int, context: int) -> int:
    """A sliding layer sees a window of the context, a full one all of it."""
    return min(context, window) if layer.kind == "sliding" else context


def shown_contexts(context: int) -> list[int]:
    """Contexts to show of a model, its own the last."""
    return sorted({min(tokens, context) for tokens in (*SHOWN, context)})


def bytes_by_context(layers: Sequence[tuple[KeyValueLayer, str]], window: int, context: int) -> dict[str, int]:
    """All keys and values at some contexts, of layers and their dtypes; sliding layers hold their window."""
    return {
        str(tokens): sum(row_bytes(layer, dtype) * rows_seen(layer, window, tokens) for layer, dtype in layers)
        for tokens in shown_contexts(context)
    }
