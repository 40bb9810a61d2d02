"""What a Gemma is, in numbers: read from config.json, checked, frozen.

Gemma 4 text (E2B, E4B, 31B) and Gemma 3 text (270M, 1B) are one family of shapes here; what differs
is a field.  Sources: the released config.json files and transformers' configuration classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from runtime.errors import GemmaError

from .released_bits import parse_bits

Kind = Literal["sliding", "full"]
KINDS: dict[str, Kind] = {"sliding_attention": "sliding", "full_attention": "full"}
SUPPORTED = "Gemma 4 text (E2B, E4B, 31B) and Gemma 3 text (270M, 1B)"


@dataclass(frozen=True)
class RopeConfig:
    theta: float
    head_dim: int
    rotated_pairs: int


@dataclass(frozen=True)
class LayerConfig:
    """One decoder layer."""

    index: int
    kind: Kind
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    source: int  # the layer whose keys and values it reads: itself, or an earlier one
    value_is_key: bool  # V is computed from the raw output of k_proj; there is no v_proj

    @property
    def owns_kv(self) -> bool:
        return self.source == self.index


@dataclass(frozen=True)
class ActivationScales:
    """Static scales of a linear's input and of its output: `fake_quantize` rounds to their multiples; 0: to nothing."""

    input: float = 0.0
    output: float = 0.0


FLOATS = ActivationScales()


@dataclass(frozen=True)
class GemmaConfig:
    family: Literal["gemma4", "gemma3"]
    layers: tuple[LayerConfig, ...]
    hidden: int
    vocab: int
    per_layer_dim: int  # 0: no per-layer embeddings
    window: int
    context: int
    softcap: float  # of the logits; 0: none
    eps: float
    attention_scale: float
    value_norm: bool  # V passes an RMSNorm without weight
    layer_scalar: bool  # each layer's output is multiplied by a stored scalar
    norm_offset: float  # stored norm weights are w - offset
    ropes: tuple[tuple[Kind, RopeConfig], ...]
    cache_bits: int = 0  # of keys and values; 0: floats
    # Of a release that was trained with static ranges, by label ("layers.3.mlp.up_proj"): of linears that have some.
    activation_scales: Mapping[str, ActivationScales] = field(default_factory=dict)
    own_head: bool = False  # the head has values of its own, not those of the token table

    @property
    def own_kv_layers(self) -> int:
        """Layers before the first that reads another's keys and values."""
        return sum(layer.owns_kv for layer in self.layers)

    @property
    def shared_layers(self) -> int:
        return len(self.layers) - self.own_kv_layers

    @property
    def rope(self) -> dict[Kind, RopeConfig]:
        return dict(self.ropes)

    @property
    def embedding_multiplier(self) -> float:
        return float(self.hidden**0.5)

    @property
    def per_layer_multiplier(self) -> float:
        return float(self.per_layer_dim**0.5)


def parse_config(raw: Mapping[str, Any], where: str) -> GemmaConfig:
    """The text part of a config.json.

    Raises GemmaError for another model, a feature that is not supported, or a field that is missing
    or out of range.
    """
    model_type = raw.get("model_type")
    text = raw["text_config"] if isinstance(raw.get("text_config"), dict) else raw
    try:
        refuse_unsupported(raw, text)
        if model_type in ("gemma4", "gemma4_text"):
            return check(parse_gemma4(text), where)
        if model_type in ("gemma3", "gemma3_text"):
            return check(parse_gemma3(text), where)
    except KeyError as error:
        raise GemmaError(f"{where}: config.json has no {error.args[0]!r}", f"supported: {SUPPORTED}") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise GemmaError(f"{where}: config.json is not one of a Gemma: {error}", f"supported: {SUPPORTED}") from error
    raise GemmaError(
        f"{where}: model_type {model_type!r} is not a Gemma that can be exported", f"supported: {SUPPORTED}"
    )


def refuse_unsupported(raw: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    """Raises ValueError for what would be computed wrongly, not refused later by a shape."""
    parse_bits(raw)
    if text.get("hidden_activation", "gelu_pytorch_tanh") != "gelu_pytorch_tanh":
        raise ValueError(f"hidden_activation {text['hidden_activation']!r} is not supported")
    if text.get("attention_bias"):
        raise ValueError("attention_bias is not supported")
    if text.get("use_bidirectional_attention") not in (None, False, "vision"):
        raise ValueError("a model that attends in both directions is not supported")


def parse_gemma4(text: Mapping[str, Any]) -> GemmaConfig:
    if text.get("enable_moe_block"):
        raise ValueError("mixture-of-experts layers are not supported")
    kinds = [KINDS[kind] for kind in text["layer_types"]]
    shared = int(text.get("num_kv_shared_layers") or 0)
    first_shared = len(kinds) - shared
    full_dim = int(text.get("global_head_dim") or text["head_dim"])
    ropes = text["rope_parameters"]
    return GemmaConfig(
        family="gemma4",
        layers=tuple(gemma4_layer(text, kinds, index, first_shared, full_dim) for index in range(len(kinds))),
        hidden=int(text["hidden_size"]),
        vocab=int(text["vocab_size"]),
        per_layer_dim=int(text.get("hidden_size_per_layer_input") or 0),
        window=int(text["sliding_window"]),
        context=int(text["max_position_embeddings"]),
        softcap=float(text.get("final_logit_softcapping") or 0),
        eps=float(text["rms_norm_eps"]),
        attention_scale=1.0,
        value_norm=True,
        layer_scalar=True,
        norm_offset=0.0,
        ropes=(
            ("sliding", parse_rope(ropes["sliding_attention"], int(text["head_dim"]))),
            ("full", parse_rope(ropes["full_attention"], full_dim)),
        ),
    )


def gemma4_layer(
    text: Mapping[str, Any], kinds: list[Kind], index: int, first_shared: int, full_dim: int
) -> LayerConfig:
    kind = kinds[index]
    full, shared = kind == "full", index >= first_shared
    value_is_key = full and bool(text.get("attention_k_eq_v"))
    kv_heads = text.get("num_global_key_value_heads") if value_is_key else None
    source = last_of_kind(kinds, kind, first_shared) if shared else index
    wide = 2 if shared and text.get("use_double_wide_mlp") else 1
    return LayerConfig(
        index=index,
        kind=kind,
        heads=int(text["num_attention_heads"]),
        kv_heads=int(kv_heads or text["num_key_value_heads"]),
        head_dim=full_dim if full else int(text["head_dim"]),
        intermediate=wide * int(text["intermediate_size"]),
        source=source,
        value_is_key=value_is_key,
    )


def last_of_kind(kinds: list[Kind], kind: Kind, before: int) -> int:
    owners = [index for index in range(before) if kinds[index] == kind]
    if not owners:
        raise ValueError(f"no {kind} layer owns the keys and values that the shared layers read")
    return owners[-1]


def parse_rope(raw: Mapping[str, Any], head_dim: int) -> RopeConfig:
    kind = raw.get("rope_type", "default")
    if kind == "proportional":
        rotated = int(raw.get("partial_rotary_factor", 1.0) * head_dim // 2)
    elif kind == "default":
        rotated = head_dim // 2
    else:
        raise ValueError(f"rope_type {kind!r} is not supported")
    return RopeConfig(float(raw["rope_theta"]), head_dim, rotated)


def parse_gemma3(text: Mapping[str, Any]) -> GemmaConfig:
    if text.get("final_logit_softcapping") or text.get("attn_logit_softcapping"):
        raise ValueError("a Gemma 3 with soft-capped logits is not supported")
    if text.get("rope_scaling"):
        raise ValueError(f"rope_scaling {text['rope_scaling']} is not supported")
    layers = int(text["num_hidden_layers"])
    pattern = int(text.get("sliding_window_pattern") or text.get("_sliding_window_pattern") or 6)
    named = text.get("layer_types") or [
        "sliding_attention" if (i + 1) % pattern else "full_attention" for i in range(layers)
    ]
    head_dim = int(text["head_dim"])
    return GemmaConfig(
        family="gemma3",
        layers=tuple(
            LayerConfig(
                index=index,
                kind=KINDS[kind],
                heads=int(text["num_attention_heads"]),
                kv_heads=int(text["num_key_value_heads"]),
                head_dim=head_dim,
                intermediate=int(text["intermediate_size"]),
                source=index,
                value_is_key=False,
            )
            for index, kind in enumerate(named)
        ),
        hidden=int(text["hidden_size"]),
        vocab=int(text["vocab_size"]),
        per_layer_dim=0,
        window=int(text["sliding_window"]),
        context=int(text["max_position_embeddings"]),
        softcap=0.0,
        eps=float(text["rms_norm_eps"]),
        attention_scale=float(text.get("query_pre_attn_scalar") or head_dim) ** -0.5,
        value_norm=False,
        layer_scalar=False,
        norm_offset=1.0,
        ropes=gemma3_ropes(text, head_dim),
    )


def gemma3_ropes(text: Mapping[str, Any], head_dim: int) -> tuple[tuple[Kind, RopeConfig], ...]:
    """Both spellings: one theta for each kind as a field, or `rope_parameters` by kind."""
    raw = text.get("rope_parameters") or {}
    if "full_attention" in raw:
        return (
            ("sliding", parse_rope(raw["sliding_attention"], head_dim)),
            ("full", parse_rope(raw["full_attention"], head_dim)),
        )
    local, full = float(text.get("rope_local_base_freq", 1e4)), float(text["rope_theta"])
    return (
        ("sliding", RopeConfig(local, head_dim, head_dim // 2)),
        ("full", RopeConfig(full, head_dim, head_dim // 2)),
    )


def check(config: GemmaConfig, where: str) -> GemmaConfig:
    """Raises GemmaError for numbers that no Gemma has; sizes bound what a hostile config can ask for."""
    limits = {
        "layers": (len(config.layers), 1, 1000),
        "hidden_size": (config.hidden, 8, 1 << 16),
        "vocab_size": (config.vocab, 2, 1 << 22),
        "hidden_size_per_layer_input": (config.per_layer_dim, 0, 1 << 14),
        "sliding_window": (config.window, 1, 1 << 20),
        "max_position_embeddings": (config.context, 1, 1 << 24),
    }
    for layer in config.layers:
        limits |= {
            "num_attention_heads": (layer.heads, 1, 1 << 10),
            "num_key_value_heads": (layer.kv_heads, 1, layer.heads),
            "head_dim": (layer.head_dim, 2, 1 << 12),
            "intermediate_size": (layer.intermediate, 1, 1 << 20),
        }
        for name, (value, least, most) in limits.items():
            if not least <= value <= most:
                raise GemmaError(
                    f"{where}: {name} {value} in config.json is not in {least} to {most}", f"supported: {SUPPORTED}"
                )
        if layer.heads % layer.kv_heads or layer.head_dim % 2:
            raise GemmaError(
                f"{where}: {layer.heads} heads do not divide among {layer.kv_heads} key heads of {layer.head_dim}"
            )
    return config
