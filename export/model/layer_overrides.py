"""`per_layer_config`: what some layers have other than the rest, as transformers 5.15 and later save it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

USED = ("head_dim", "num_key_value_heads")  # the only fields that Gemma 4's layers read for themselves


def layer_overrides(text: Mapping[str, Any], kinds: Sequence[str]) -> list[dict[str, int]]:
    """Give each layer's head_dim and num_key_value_heads, resolved.

    `per_layer_config` alone where it is said; else the older fields of full layers, which
    num_global_key_value_heads changes only where keys are values.

    Raises KeyError, TypeError or ValueError for a layer that there is not, a field that layers do not have for
    themselves, and layers of one kind that differ.
    """
    rest = {name: int(text[name]) for name in USED}
    if "per_layer_config" in text:
        said = by_layer(text["per_layer_config"] or {}, text, len(kinds))
    else:
        said = dict.fromkeys((index for index, kind in enumerate(kinds) if kind == "full"), older_fields(text))
    resolved = [rest | said.get(index, {}) for index in range(len(kinds))]
    for kind in set(kinds):
        if len({tuple(each.items()) for each, own in zip(resolved, kinds, strict=True) if own == kind}) > 1:
            raise ValueError(f"per_layer_config has {kind} layers that differ, which is not supported")
    return resolved


def older_fields(text: Mapping[str, Any]) -> dict[str, int]:
    heads = text.get("num_global_key_value_heads") if text.get("attention_k_eq_v") else None
    return {"head_dim": int(text["global_head_dim"])} | ({"num_key_value_heads": int(heads)} if heads else {})


def by_layer(
    raw: Mapping[str, Any], text: Mapping[str, Any], layers: int, own: Sequence[str] = USED
) -> dict[int, dict[str, int]]:
    """What is said of the fields that layers may have for themselves, by the layer's number.

    A key may have zeros before it.  Any other field may be said only as all layers have it.
    """
    said = {int(key): each for key, each in raw.items()}
    wrong = [index for index in said if not 0 <= index < layers]
    if wrong:
        raise ValueError(f"per_layer_config names layer {wrong[0]} of {layers}")
    for index, each in said.items():
        for name, value in each.items():
            if name not in own and value not in ([], text.get(name)):
                raise ValueError(f"per_layer_config gives layer {index} a {name} of its own, which is not supported")
    return {index: {name: int(each[name]) for name in own if name in each} for index, each in said.items()}


def refuse_overrides(text: Mapping[str, Any], layers: int) -> None:
    """Raises ValueError for a layer of a Gemma 3 that is not as the others: its layers read no field for themselves."""
    by_layer(text.get("per_layer_config") or {}, text, layers, own=())
