"""Rotary positions of each kind of layer, from config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["sliding", "full"]
KINDS: dict[str, Kind] = {"sliding_attention": "sliding", "full_attention": "full"}
GEMMA4_ROPE: dict[str, Any] = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
}
GEMMA3_THETA = {"full_attention": ("rope_theta", 1e6), "sliding_attention": ("rope_local_base_freq", 1e4)}


@dataclass(frozen=True)
class RopeConfig:
    theta: float
    head_dim: int
    rotated_pairs: int


Ropes = tuple[tuple[Kind, RopeConfig], ...]


def gemma4_ropes(text: Mapping[str, Any], head_dims: Mapping[Kind, int]) -> Ropes:
    """Raises KeyError or ValueError for a kind that has none, or one that is not supported."""
    by_kind = GEMMA4_ROPE if text.get("rope_parameters") is None else text["rope_parameters"]
    return tuple((kind, parse_rope(by_kind[name], head_dims[kind])) for name, kind in KINDS.items())


def gemma3_ropes(text: Mapping[str, Any], head_dim: int) -> Ropes:
    """Read `rope_parameters` by kind; what that leaves out comes from the older fields, else from the defaults.

    A flat `rope_parameters`, with one theta for all layers, says nothing: transformers looks by kind only.
    `rope_scaling` changes the full layers.
    """
    by_kind = {name: dict(each or {}) for name, each in (text.get("rope_parameters") or {}).items() if name in KINDS}
    full = by_kind.setdefault("full_attention", {})
    full |= text.get("rope_scaling") or {}
    for name, (older, default) in GEMMA3_THETA.items():
        by_kind.setdefault(name, {}).setdefault("rope_theta", text.get(older, default))
    return tuple((kind, parse_rope(by_kind[name], head_dim)) for name, kind in KINDS.items())


def parse_rope(raw: Mapping[str, Any], head_dim: int) -> RopeConfig:
    """Raises ValueError for a type, or a factor, that is not supported."""
    kind = raw.get("rope_type") or raw.get("type") or "default"
    rotated = head_dim // 2
    if kind == "proportional":
        share = float(raw.get("partial_rotary_factor", 1.0))
        if not 0 <= share <= 1:
            raise ValueError(f"partial_rotary_factor {share} is not in 0 to 1")
        rotated = int(share * head_dim // 2)
    if kind not in ("default", "proportional", "linear"):
        raise ValueError(f"rope_type {kind!r} is not supported")
    if kind != "default" and float(raw.get("factor") or 1.0) != 1.0:
        raise ValueError(f"rope_type {kind!r} with factor {raw['factor']} is not supported")
    return RopeConfig(float(raw["rope_theta"]), head_dim, rotated)
