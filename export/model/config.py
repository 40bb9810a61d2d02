"""What a Gemma is, in numbers: read from config.json, checked, frozen.

Gemma 4 text (E2B, E4B, 31B) and Gemma 3 text (270M, 1B) are one family of shapes here; what differs
is a field.  Sources: the released config.json files and transformers' configuration classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from runtime.errors import GemmaError

from .config_defaults import GEMMA3, GEMMA4
from .layer_overrides import layer_overrides, refuse_overrides
from .rope_config import KINDS as KINDS
from .rope_config import Kind as Kind
from .rope_config import RopeConfig, Ropes, gemma3_ropes, gemma4_ropes

MOST_LAYERS = 1000
SUPPORTED = "Gemma 4 text (E2B, E4B, 31B) and Gemma 3 text (270M, 1B)"


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
    ropes: Ropes
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
    """The text part of a config.json; a field that it leaves out is what transformers takes for it.

    Raises GemmaError for another model, a feature that is not supported, or a value out of range.
    """
    model_type = raw.get("model_type")
    text = text_part(raw)
    try:
        refuse_unsupported(text)
        if model_type in ("gemma4", "gemma4_text"):
            return check(parse_gemma4(GEMMA4 | text), where)
        if model_type in ("gemma3", "gemma3_text"):
            return check(parse_gemma3(GEMMA3 | text), where)
    except KeyError as error:
        raise GemmaError(f"{where}: config.json has no {error.args[0]!r}", f"supported: {SUPPORTED}") from error
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise GemmaError(
            f"{where}: config.json does not describe a Gemma: {error}", f"supported: {SUPPORTED}"
        ) from error
    raise GemmaError(
        f"{where}: model_type {model_type!r} is not a Gemma that can be exported", f"supported: {SUPPORTED}"
    )


def text_part(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the text model, of a folder that holds more or that alone."""
    return dict(raw["text_config"] if isinstance(raw.get("text_config"), dict) else raw)


def tied(raw: Mapping[str, Any]) -> bool:
    """Whether config.json says that the head is the token embeddings; of a whole model its text part is not asked."""
    return bool(raw.get("tie_word_embeddings", True))


def refuse_unsupported(text: Mapping[str, Any]) -> None:
    """Raises ValueError for what would be computed wrongly, not refused later by a shape."""
    if text.get("hidden_activation", "gelu_pytorch_tanh") != "gelu_pytorch_tanh":
        raise ValueError(f"hidden_activation {text['hidden_activation']!r} is not supported")
    if text.get("attention_bias"):
        raise ValueError("attention_bias is not supported")
    if text.get("use_bidirectional_attention") not in (None, False, "vision"):
        raise ValueError("a model that attends in both directions is not supported")


def kinds_of(text: Mapping[str, Any], pattern: int) -> list[Kind]:
    """Give the kind of each layer: as listed, or every `pattern`-th full.

    Raises ValueError for a list of another length.
    """
    layers = int(text["num_hidden_layers"])
    if not 0 < layers <= MOST_LAYERS:
        raise ValueError(f"num_hidden_layers {layers} is not in 1 to {MOST_LAYERS}")
    if text.get("layer_types") is None:
        return ["full" if (index + 1) % pattern == 0 else "sliding" for index in range(layers)]
    if len(text["layer_types"]) != layers:
        raise ValueError(f"layer_types has {len(text['layer_types'])} entries for num_hidden_layers {layers}")
    return [KINDS[name] for name in text["layer_types"]]


def parse_gemma4(text: Mapping[str, Any]) -> GemmaConfig:
    if text.get("enable_moe_block"):
        raise ValueError("mixture-of-experts layers are not supported")
    kinds = kinds_of(text, pattern=6)
    kinds[-1:] = ["full"]  # whatever is listed: transformers does so
    overrides = layer_overrides(text, kinds)
    head_dims: dict[Kind, int] = {"sliding": int(text["head_dim"])}
    head_dims |= {kind: each["head_dim"] for kind, each in zip(kinds, overrides, strict=True)}
    first_shared = len(kinds) - int(text["num_kv_shared_layers"] or 0)
    return GemmaConfig(
        family="gemma4",
        layers=tuple(gemma4_layer(text, kinds, index, first_shared, each) for index, each in enumerate(overrides)),
        hidden=int(text["hidden_size"]),
        vocab=int(text["vocab_size"]),
        per_layer_dim=int(text["hidden_size_per_layer_input"] or 0),
        window=int(text["sliding_window"]),
        context=int(text["max_position_embeddings"]),
        softcap=float(text["final_logit_softcapping"] or 0),
        eps=float(text["rms_norm_eps"]),
        attention_scale=1.0,
        value_norm=True,
        layer_scalar=True,
        norm_offset=0.0,
        ropes=gemma4_ropes(text, head_dims),
    )


def gemma4_layer(
    text: Mapping[str, Any], kinds: list[Kind], index: int, first_shared: int, own: Mapping[str, int]
) -> LayerConfig:
    """`own` has the layer's head_dim and num_key_value_heads."""
    kind = kinds[index]
    shared = index >= first_shared
    wide = 2 if shared and text.get("use_double_wide_mlp") else 1
    return LayerConfig(
        index=index,
        kind=kind,
        heads=int(text["num_attention_heads"]),
        kv_heads=own["num_key_value_heads"],
        head_dim=own["head_dim"],
        intermediate=wide * int(text["intermediate_size"]),
        source=last_of_kind(kinds, kind, first_shared) if shared else index,
        value_is_key=kind == "full" and bool(text.get("attention_k_eq_v")),
    )


def last_of_kind(kinds: list[Kind], kind: Kind, before: int) -> int:
    owners = [index for index in range(before) if kinds[index] == kind]
    if not owners:
        raise ValueError(f"no {kind} layer owns the keys and values that the shared layers read")
    return owners[-1]


def parse_gemma3(text: Mapping[str, Any]) -> GemmaConfig:
    if text.get("final_logit_softcapping") or text.get("attn_logit_softcapping"):
        raise ValueError("a Gemma 3 with soft-capped logits is not supported")
    head_dim = int(text["head_dim"])
    kinds = kinds_of(text, pattern=int(text.get("sliding_window_pattern", 6)))
    refuse_overrides(text, len(kinds))
    return GemmaConfig(
        family="gemma3",
        layers=tuple(
            LayerConfig(
                index=index,
                kind=kind,
                heads=int(text["num_attention_heads"]),
                kv_heads=int(text["num_key_value_heads"]),
                head_dim=head_dim,
                intermediate=int(text["intermediate_size"]),
                source=index,
                value_is_key=False,
            )
            for index, kind in enumerate(kinds)
        ),
        hidden=int(text["hidden_size"]),
        vocab=int(text["vocab_size"]),
        per_layer_dim=0,
        window=int(text["sliding_window"]),
        context=int(text["max_position_embeddings"]),
        softcap=0.0,
        eps=float(text["rms_norm_eps"]),
        attention_scale=float(text["query_pre_attn_scalar"]) ** -0.5,
        value_norm=False,
        layer_scalar=False,
        norm_offset=1.0,
        ropes=gemma3_ropes(text, head_dim),
    )


def check(config: GemmaConfig, where: str) -> GemmaConfig:
    """Raises GemmaError for numbers that no Gemma has; sizes bound what a hostile config can ask for."""
    limits = {
        "layers": (len(config.layers), 1, MOST_LAYERS),
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
                    f"{where}: {name} in config.json must be {least} to {most}, not {value}", f"supported: {SUPPORTED}"
                )
        if layer.heads % layer.kv_heads or layer.head_dim % 2:
            raise GemmaError(
                f"{where}: {layer.heads} heads do not divide among {layer.kv_heads} key heads of {layer.head_dim}"
            )
    return config
