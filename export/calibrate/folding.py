"""Which producer undoes which factor: exact in float, for every shape of layer.

input_layernorm -> q, k, v;  pre_feedforward_layernorm -> gate, up;  up -> down;  and v -> o where the
values pass no norm and nobody else reads them: not in Gemma 4, whose V is normalized.  Neither the
per-layer embedding gates, which read the bare residual.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from quantize.fold import channel_factors

from ..model.arrays import Floats
from ..model.config import GemmaConfig, LayerConfig

INPUTS = {  # which linears read the same input, by the name that calibration knows it
    "attention": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "feed_forward": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
NORMS = {"attention": "input_layernorm", "feed_forward": "pre_feedforward_layernorm"}


def folds_values(config: GemmaConfig, layer: LayerConfig) -> bool:
    return not (config.value_norm or config.shared_layers or layer.value_is_key)


def fold_layer(
    config: GemmaConfig, layer: LayerConfig, floats: dict[str, Floats], moments: Mapping[str, Floats]
) -> dict[str, Floats]:
    """Fold one layer's parameters in place; the factors (inputs,) by input, where there are some.

    moments: mean square (inputs,) of each input.  A static range has one scale for all channels of an input, and
    would not be the same range of folded ones: then nothing is folded.
    """
    if config.activation_scales:
        return {}
    factors = {name: channel_factors(moments[name]) for name in ("attention", "feed_forward", "down")}
    if folds_values(config, layer):
        factors["output"] = value_factors(layer, moments["output"])
    for name, factor in factors.items():
        for linear in INPUTS[name]:
            if f"{linear}.weight" in floats:
                floats[f"{linear}.weight"] = floats[f"{linear}.weight"] * factor
    for name, norm in NORMS.items():
        floats[f"{norm}.weight"] = floats[f"{norm}.weight"] / factors[name]
    floats["mlp.up_proj.weight"] = floats["mlp.up_proj.weight"] / factors["down"][:, None]
    if "output" in factors:
        channels = one_a_key_head(layer, factors["output"])
        floats["self_attn.v_proj.weight"] = floats["self_attn.v_proj.weight"] / channels.ravel()[:, None]
    return factors


def value_factors(layer: LayerConfig, moments: Floats) -> Floats:
    """The query heads of a key head share its value channels, and so their factors; (heads * dim,)."""
    shared = moments.reshape(layer.kv_heads, -1, layer.head_dim).mean(1, keepdims=True)
    every = np.broadcast_to(shared, (layer.kv_heads, layer.heads // layer.kv_heads, layer.head_dim))
    return channel_factors(every.ravel())


def one_a_key_head(layer: LayerConfig, factors: Floats) -> Floats:
    """Factors of all query heads (heads * dim,) to those of the value channels, (kv_heads, dim)."""
    return factors.reshape(layer.kv_heads, -1, layer.head_dim)[:, 0]
