"""Scales of int8 keys and values, from what the float model's caches hold while it reads a text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..model.arrays import Floats
from ..model.config import GemmaConfig

MARGIN = 1.25  # over the largest value seen: other texts go further
LARGEST = 127


def released_scales(config: GemmaConfig, scales: Mapping[str, float]) -> dict[str, Floats]:
    """One scale for a layer's keys and one for its values, by parameter, as (1, K, 1, D) float32."""
    shapes = {layer.index: (1, layer.kv_heads, 1, layer.head_dim) for layer in config.layers if layer.owns_kv}
    names = {f"layers.{i}.self_attn.{part}": shape for i, shape in shapes.items() for part in ("k_scale", "v_scale")}
    return {name: np.full(shape, scales[name], np.float32) for name, shape in names.items() if name in scales}


def covers(scales: Mapping[str, Floats], config: GemmaConfig) -> bool:
    """Whether they are all that a decoder with int8 caches has."""
    return len(scales) == 2 * config.own_kv_layers


class Ranges:
    """Largest magnitude in each channel of each layer's keys and values.

    Values of unit norm have one for all their channels, and all heads the same: then onnxruntime needs no
    scales of channels, for those of keys go into the gains of their norms.
    """

    def __init__(self, config: GemmaConfig, divided: Mapping[int, Floats]) -> None:
        """`divided`: what calibration divided a layer's values by, (1, K, 1, D), by layer."""
        self.config, self.divided, self.largest = config, divided, dict[str, Tensor]()

    def see(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Keys, rotated, and values of one layer, (1, K, T, D) each."""
        pair = torch.hypot(*key.chunk(2, -1)).amax(2, keepdim=True)  # the same at every position it turns to
        if layer in self.divided:
            value = value / torch.from_numpy(self.divided[layer])
        largest = value.abs().amax(2, keepdim=True)
        if self.config.value_norm:
            pair, largest = pair.amax(1, keepdim=True).expand_as(pair), largest.amax().expand_as(largest)
        self.largest[f"layers.{layer}.self_attn.k_scale"] = torch.cat([pair, pair], -1)
        self.largest[f"layers.{layer}.self_attn.v_scale"] = largest

    def scales(self) -> dict[str, Floats]:
        """Scales by parameter, (1, K, 1, D) float32, above zero."""
        smallest = torch.finfo(torch.float32).tiny
        return {
            name: (largest * (MARGIN / LARGEST)).clamp_min(smallest).numpy() for name, largest in self.largest.items()
        }
