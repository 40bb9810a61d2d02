"""The text decoder of Gemma 3 and Gemma 4: the one place where it is described.

As transformers computes it (models/gemma4/modeling_gemma4.py, models/gemma3), with two liberties of
an exporter: embeddings come in as inputs, and after the last layer that owns keys and values only
the kept positions go on, because nobody will read the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .config import FLOATS, ActivationScales, GemmaConfig, LayerConfig
from .operators import attend, attend_cached, fake_quantize, gelu_tanh, linear, rms_norm, store_kv

KV = tuple[Tensor, Tensor]
Scales = tuple[Tensor | None, Tensor | None]
ScalesOf = Callable[[str], ActivationScales]  # of the linears of a layer, by their names in it


class Linear(nn.Module):
    """x · weightᵀ; with static scales of activations both its ends are rounded, as transformers' QuantizedLinear."""

    def __init__(self, inputs: int, outputs: int, scales: ActivationScales = FLOATS) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs), requires_grad=False)
        self.scales = scales

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = linear(rounded(x, self.scales.input), self.weight)
        return rounded(out, self.scales.output)


def rounded(x: Tensor, scale: float) -> Tensor:
    """Round to the 8-bit multiples of a static scale, if there is one."""
    out: Tensor = fake_quantize(x, scale) if scale else x
    return out


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim), requires_grad=False)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = rms_norm(x, self.weight, self.eps)
        return out


class MLP(nn.Module):
    def __init__(self, hidden: int, intermediate: int, scales: ScalesOf) -> None:
        super().__init__()
        self.gate_proj = Linear(hidden, intermediate, scales("mlp.gate_proj"))
        self.up_proj = Linear(hidden, intermediate, scales("mlp.up_proj"))
        self.down_proj = Linear(intermediate, hidden, scales("mlp.down_proj"))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(gelu_tanh(self.gate_proj(x)) * self.up_proj(x))
        return out


class Attention(nn.Module):
    def __init__(self, config: GemmaConfig, layer: LayerConfig, scales: ScalesOf) -> None:
        super().__init__()
        self.layer = layer
        self.eps, self.scale, self.value_norm = config.eps, config.attention_scale, config.value_norm
        self.window = config.window if layer.kind == "sliding" else 0
        self.q_proj = Linear(config.hidden, layer.heads * layer.head_dim, scales("self_attn.q_proj"))
        self.q_norm = RMSNorm(layer.head_dim, config.eps)
        self.o_proj = Linear(layer.heads * layer.head_dim, config.hidden, scales("self_attn.o_proj"))
        self.has_scales = bool(config.cache_bits) and layer.owns_kv
        if self.has_scales:
            shape = (1, layer.kv_heads, 1, layer.head_dim)
            self.k_scale = nn.Parameter(torch.empty(shape), requires_grad=False)
            self.v_scale = nn.Parameter(torch.empty(shape), requires_grad=False)
        if layer.owns_kv:
            self.k_proj = Linear(config.hidden, layer.kv_heads * layer.head_dim, scales("self_attn.k_proj"))
            self.k_norm = RMSNorm(layer.head_dim, config.eps)
            if not layer.value_is_key:
                self.v_proj = Linear(config.hidden, layer.kv_heads * layer.head_dim, scales("self_attn.v_proj"))

    @property
    def cache_scales(self) -> Scales:
        return (self.k_scale, self.v_scale) if self.has_scales else (None, None)

    def forward(self, x: Tensor, positions: Tensor, rope: KV, kv: KV, scales: Scales) -> tuple[Tensor, KV]:
        """`kv` is the past of a layer that owns it, the source's present of one that does not; so are `scales`."""
        if not self.layer.owns_kv:
            return self.attend_cached(x, positions, rope, kv, scales), kv
        q, (k, v) = self.q_proj(x), self.keys_values(x)
        gains = (self.q_norm.weight, self.k_norm.weight)
        out, key, value = attend(
            q, k, v, *gains, positions, *rope, *kv, self.scale, self.window, self.value_norm, self.eps, *scales,
            self.layer.index,
        )  # fmt: skip
        return self.o_proj(out), (key, value)

    def keys_values(self, x: Tensor) -> KV:
        k = self.k_proj(x)
        return k, k if self.layer.value_is_key else self.v_proj(x)

    def store_kv(self, x: Tensor, positions: Tensor, rope: KV, past: KV, scales: Scales) -> KV:
        """Give the present keys and values, without attending to them."""
        key, value = store_kv(
            *self.keys_values(x), self.k_norm.weight, positions, *rope, *past, self.value_norm, self.eps, *scales,
            self.layer.index,
        )  # fmt: skip
        return key, value

    def attend_cached(self, x: Tensor, positions: Tensor, rope: KV, present: KV, scales: Scales) -> Tensor:
        """Attend to keys and values that are cached already; x (1, n, hidden) are the last positions, or some."""
        attention = attend_cached(
            self.q_proj(x), self.q_norm.weight, positions, *rope, *present, self.scale, self.window, self.eps, *scales,
            self.layer.index,
        )  # fmt: skip
        out: Tensor = self.o_proj(attention)
        return out


class Layer(nn.Module):
    def __init__(self, config: GemmaConfig, layer: LayerConfig) -> None:
        super().__init__()

        def scales(name: str) -> ActivationScales:
            return config.activation_scales.get(f"layers.{layer.index}.{name}", FLOATS)

        self.input_layernorm = RMSNorm(config.hidden, config.eps)
        self.self_attn = Attention(config, layer, scales)
        self.post_attention_layernorm = RMSNorm(config.hidden, config.eps)
        self.pre_feedforward_layernorm = RMSNorm(config.hidden, config.eps)
        self.mlp = MLP(config.hidden, layer.intermediate, scales)
        self.post_feedforward_layernorm = RMSNorm(config.hidden, config.eps)
        self.per_layer_dim = config.per_layer_dim
        if config.per_layer_dim:
            self.per_layer_input_gate = Linear(config.hidden, config.per_layer_dim, scales("per_layer_input_gate"))
            self.per_layer_projection = Linear(config.per_layer_dim, config.hidden, scales("per_layer_projection"))
            self.post_per_layer_input_norm = RMSNorm(config.hidden, config.eps)
        self.has_scalar = config.layer_scalar
        if config.layer_scalar:
            self.layer_scalar = nn.Parameter(torch.empty(1), requires_grad=False)

    def forward(
        self, x: Tensor, per_layer: Tensor | None, positions: Tensor, rope: KV, kv: KV, scales: Scales,
        kept: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, KV]:  # fmt: skip
        """x (1, S, hidden), per_layer (1, S, per_layer_dim).

        `kept`, indices (n,) among the S and their positions (1, n): for these alone there is an answer.
        """
        normed = self.input_layernorm(x)
        if kept is None:
            attention, kv = self.self_attn(normed, positions, rope, kv, scales)
        else:
            index, positions_kept = kept
            kv = self.self_attn.store_kv(normed, positions, rope, kv, scales)
            attention = self.self_attn.attend_cached(normed.index_select(1, index), positions_kept, rope, kv, scales)
            x = x.index_select(1, index)
            per_layer = None if per_layer is None else per_layer.index_select(1, index)
        x = x + self.post_attention_layernorm(attention)
        x = x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))
        if per_layer is not None:
            gated = gelu_tanh(self.per_layer_input_gate(x)) * per_layer
            x = x + self.post_per_layer_input_norm(self.per_layer_projection(gated))
        return x * self.layer_scalar if self.has_scalar else x, kv


class PerLayerInputs(nn.Module):
    """Token rows and a projection of the embeddings, mixed: one slice for each of some layers."""

    def __init__(self, config: GemmaConfig, layers: int) -> None:
        super().__init__()
        self.dim = config.per_layer_dim
        self.scale = config.hidden**-0.5
        self.projection = Linear(config.hidden, layers * config.per_layer_dim)

    def forward(self, embeds: Tensor, rows: Tensor, norm: RMSNorm) -> Sequence[Tensor]:
        """embeds (1, S, hidden), rows (1, S, layers · dim) to one (1, S, dim) a layer."""
        context = (self.projection(embeds) * self.scale).unflatten(-1, (-1, self.dim))
        mixed = (norm(context).flatten(2) + rows) * 2**-0.5
        slices: Sequence[Tensor] = mixed.split(self.dim, -1)
        return slices


class TextDecoder(nn.Module):
    """Embeddings and rows in; logits, normed hidden states and presents out."""

    def __init__(self, config: GemmaConfig) -> None:
        super().__init__()
        self.config = config
        own, shared = config.own_kv_layers, config.shared_layers
        if config.per_layer_dim:
            self.per_layer_own = PerLayerInputs(config, own)
            if shared:
                self.per_layer_shared = PerLayerInputs(config, shared)
            self.per_layer_projection_norm = RMSNorm(config.per_layer_dim, config.eps)
        self.layers = nn.ModuleList(Layer(config, layer) for layer in config.layers)
        self.norm = RMSNorm(config.hidden, config.eps)
        self.head = Linear(config.hidden, config.vocab)

    def forward(
        self,
        inputs_embeds: Tensor,
        per_layer_inputs: Tensor | None,
        per_layer_inputs_kept: Tensor | None,
        positions: Tensor,
        positions_kept: Tensor,
        kept: Tensor,
        ropes: Sequence[KV],
        pasts: Sequence[KV],
    ) -> tuple[Tensor, Tensor, list[KV]]:
        """S tokens, of which the last n are kept.

        inputs_embeds (1, S, hidden), already multiplied; per_layer_inputs (1, S, own · dim);
        per_layer_inputs_kept (1, n, shared · dim); positions (1, S); positions_kept (1, n); kept (n,)
        indices among the S tokens; ropes: (cos, sin) of the sliding and of the full layers; pasts: one
        (1, K, T, D) pair for each layer that owns keys and values.

        Gives logits (1, n, vocab), hidden (1, n, hidden) after the final norm, and the presents.
        """
        config, x = self.config, inputs_embeds
        rope = dict(zip(("sliding", "full"), ropes, strict=True))
        slices = self.per_layer_slices(inputs_embeds, per_layer_inputs, per_layer_inputs_kept, kept)
        presents: list[KV] = []
        for layer, shape in zip(self.layers, config.layers, strict=True):
            # The last layer with keys and values of its own: what it answers others than the kept, nobody reads.
            last = shape.index == config.own_kv_layers - 1
            kv = pasts[shape.index] if shape.owns_kv else presents[shape.source]
            scales = cast(Layer, self.layers[shape.source]).self_attn.cache_scales
            per_layer, only = slices[shape.index] if slices else None, (kept, positions_kept) if last else None
            x, kv = layer(x, per_layer, positions, rope[shape.kind], kv, scales, only)
            if shape.owns_kv:
                presents.append(kv)
            if last:
                positions = positions_kept
        hidden = self.norm(x)
        return self.logits(hidden), hidden, presents

    def per_layer_slices(
        self, embeds: Tensor, rows: Tensor | None, rows_kept: Tensor | None, kept: Tensor
    ) -> list[Tensor]:
        if rows is None:
            return []
        slices = list(self.per_layer_own(embeds, rows, self.per_layer_projection_norm))
        if rows_kept is not None:
            kept_embeds = embeds.index_select(1, kept)
            slices += self.per_layer_shared(kept_embeds, rows_kept, self.per_layer_projection_norm)
        return slices

    def logits(self, hidden: Tensor) -> Tensor:
        return softcapped(self.head(hidden), self.config.softcap)


def softcapped(logits: Tensor, cap: float) -> Tensor:
    return torch.tanh(logits * (1 / cap)) * cap if cap else logits
