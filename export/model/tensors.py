"""The tensors of a checkpoint by name and shape: which are needed, which are known and not used."""

from __future__ import annotations

import re

from .arrays import Shape
from .config import GemmaConfig, LayerConfig

PREFIXES = ("model.language_model.", "language_model.model.", "model.")
# Parts of the released folders that a text bundle does not use.
# Heads that a trainer of rewards or values puts beside a model, and positions that older code saved: transformers
# leaves them out of a causal model too.
ADDED = re.compile(r"^(v_head|value_head|score)\.|\.rotary_emb\.inv_freq$")
TOWERS = re.compile(
    r"^(model\.)?(vision_tower|audio_tower|embed_vision|embed_audio|multi_modal_projector|vision_embedder|audio_embedder)\."
)
HEAD, TABLE = "lm_head.weight", "embed_tokens.weight"
SHARED_DEAD = re.compile(
    r"layers\.(\d+)\.self_attn\."
    r"(?:(?:k_proj|v_proj|k_norm)\.weight|[kv]_proj\.(?:in|out)put_activation_scale|[kv]_cache_scale)"
)


def needed(config: GemmaConfig) -> dict[str, Shape]:
    """Every tensor that the model is made of, by our name (the released name without its prefix)."""
    shapes: dict[str, Shape] = {
        TABLE: (config.vocab, config.hidden),
        "norm.weight": (config.hidden,),
    }
    if config.own_head:
        shapes[HEAD] = (config.vocab, config.hidden)
    if config.per_layer_dim:
        width = len(config.layers) * config.per_layer_dim
        shapes |= {
            "embed_tokens_per_layer.weight": (config.vocab, width),
            "per_layer_model_projection.weight": (width, config.hidden),
            "per_layer_projection_norm.weight": (config.per_layer_dim,),
        }
    for layer in config.layers:
        shapes |= {f"layers.{layer.index}.{name}": shape for name, shape in of_layer(config, layer).items()}
    return shapes


def of_layer(config: GemmaConfig, layer: LayerConfig) -> dict[str, Shape]:
    hidden, dim = config.hidden, layer.head_dim
    shapes: dict[str, Shape] = {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "pre_feedforward_layernorm.weight": (hidden,),
        "post_feedforward_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (layer.heads * dim, hidden),
        "self_attn.o_proj.weight": (hidden, layer.heads * dim),
        "self_attn.q_norm.weight": (dim,),
        "mlp.gate_proj.weight": (layer.intermediate, hidden),
        "mlp.up_proj.weight": (layer.intermediate, hidden),
        "mlp.down_proj.weight": (hidden, layer.intermediate),
    }
    if layer.owns_kv:
        shapes["self_attn.k_proj.weight"] = (layer.kv_heads * dim, hidden)
        shapes["self_attn.k_norm.weight"] = (dim,)
        if not layer.value_is_key:
            shapes["self_attn.v_proj.weight"] = (layer.kv_heads * dim, hidden)
    if config.per_layer_dim:
        shapes["per_layer_input_gate.weight"] = (config.per_layer_dim, hidden)
        shapes["per_layer_projection.weight"] = (hidden, config.per_layer_dim)
        shapes["post_per_layer_input_norm.weight"] = (hidden,)
    if config.layer_scalar:
        shapes["layer_scalar"] = (1,)
    return shapes


def our_name(released: str) -> str:
    """The released name without its prefix."""
    for prefix in PREFIXES:
        if released.startswith(prefix):
            return released.removeprefix(prefix)
    return released


def known_unused(config: GemmaConfig, released: str) -> bool:
    """Towers, dead keys and values of shared layers, a tied head stored twice, and what trainers add to a model."""
    if TOWERS.match(released) or ADDED.search(released) or (released == HEAD and not config.own_head):
        return True
    dead = SHARED_DEAD.fullmatch(our_name(released))
    if dead is None or int(dead[1]) >= len(config.layers):
        return False
    return not config.layers[int(dead[1])].owns_kv


def is_linear(name: str) -> bool:
    """A matrix of attention or of a feed-forward, of any layer: what every 4-bit release has at 4 bits or less."""
    return name.startswith("layers.") and (".self_attn." in name or ".mlp." in name)


def part(config: GemmaConfig, name: str) -> str:
    """The part of the model that a tensor belongs to, for a table of parameters."""
    if name.startswith("embed_tokens_per_layer"):
        return "per-layer embeddings"
    if name == HEAD:
        return "head"
    if name == TABLE:
        return "token embeddings" if config.own_head else "token embeddings and head"
    if "per_layer" in name:
        return "per-layer projections"
    if ".mlp." in name:
        return "feed-forward"
    if "_proj." in name:
        return "attention"
    return "norms and scalars"
