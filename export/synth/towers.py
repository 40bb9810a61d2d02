"""The vision and audio towers of a released Gemma 4, as names and shapes of tensors.

A text bundle uses none of them; a generated checkpoint holds them, because a release does.  Source:
transformers' modelling of `gemma4_vision` and `gemma4_audio`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..model.arrays import Shape

BOUNDS = ("input_min", "input_max", "output_min", "output_max")  # of a linear that clips, scalars


def towers(raw: Mapping[str, Any]) -> dict[str, Shape]:
    """Tensors of both towers and their projections, for a whole config.json; none for a text model."""
    shapes: dict[str, Shape] = {}
    hidden = raw.get("text_config", raw)["hidden_size"]
    if config := raw.get("vision_config"):
        shapes |= {f"model.vision_tower.{name}": shape for name, shape in vision(config).items()}
        shapes["model.embed_vision.embedding_projection.weight"] = (hidden, config["hidden_size"])
    if config := raw.get("audio_config"):
        shapes |= {f"model.audio_tower.{name}": shape for name, shape in audio(config).items()}
        shapes["model.embed_audio.embedding_projection.weight"] = (hidden, config["output_proj_dims"])
    return shapes


def vision(config: Mapping[str, Any]) -> dict[str, Shape]:
    hidden, wide, dim = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    heads, kv_heads = config["num_attention_heads"] * dim, config["num_key_value_heads"] * dim
    shapes: dict[str, Shape] = {
        "patch_embedder.input_proj.weight": (hidden, 3 * config["patch_size"] ** 2),
        "patch_embedder.position_embedding_table": (2, config["position_embedding_size"], hidden),
    }
    if config["standardize"]:
        shapes |= {"std_bias": (hidden,), "std_scale": (hidden,)}
    linears = {
        "self_attn.q_proj": (heads, hidden),
        "self_attn.k_proj": (kv_heads, hidden),
        "self_attn.v_proj": (kv_heads, hidden),
        "self_attn.o_proj": (hidden, heads),
        "mlp.gate_proj": (wide, hidden),
        "mlp.up_proj": (wide, hidden),
        "mlp.down_proj": (hidden, wide),
    }
    norms = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
    layer: dict[str, Shape] = {f"{name}.weight": (hidden,) for name in norms}
    layer |= {"self_attn.q_norm.weight": (dim,), "self_attn.k_norm.weight": (dim,)}
    layer |= clipped(linears, clips=config["use_clipped_linears"])
    return shapes | repeated("encoder.layers", config["num_hidden_layers"], layer)


def audio(config: Mapping[str, Any]) -> dict[str, Shape]:
    hidden, (first, second) = config["hidden_size"], config["subsampling_conv_channels"]
    out, dim = config["output_proj_dims"], hidden // config["num_attention_heads"]
    shapes: dict[str, Shape] = {
        "subsample_conv_projection.layer0.conv.weight": (first, 1, 3, 3),
        "subsample_conv_projection.layer0.norm.weight": (first,),
        "subsample_conv_projection.layer1.conv.weight": (second, first, 3, 3),
        "subsample_conv_projection.layer1.norm.weight": (second,),
        "subsample_conv_projection.input_proj_linear.weight": (hidden, first // 4 * second),
        "output_proj.weight": (out, hidden),
        "output_proj.bias": (out,),
    }
    linears: dict[str, Shape] = {
        f"feed_forward{which}.ffw_layer_{part}": shape
        for which in (1, 2)
        for part, shape in ((1, (4 * hidden, hidden)), (2, (hidden, 4 * hidden)))
    }
    linears |= {f"self_attn.{name}": (hidden, hidden) for name in ("q_proj", "k_proj", "v_proj", "post")}
    linears |= {"lconv1d.linear_start": (2 * hidden, hidden), "lconv1d.linear_end": (hidden, hidden)}
    norms = [f"feed_forward{which}.{part}_layer_norm" for which in (1, 2) for part in ("pre", "post")]
    norms += ["lconv1d.pre_layer_norm", "lconv1d.conv_norm", "norm_pre_attn", "norm_post_attn", "norm_out"]
    layer: dict[str, Shape] = {f"{name}.weight": (hidden,) for name in norms}
    layer |= {
        "lconv1d.depthwise_conv1d.weight": (hidden, 1, config["conv_kernel_size"]),
        "self_attn.per_dim_scale": (dim,),
        "self_attn.relative_k_proj.weight": (hidden, hidden),
    }
    layer |= clipped(linears, clips=config["use_clipped_linears"])
    return shapes | repeated("layers", config["num_hidden_layers"], layer)


def clipped(linears: Mapping[str, Shape], *, clips: bool) -> dict[str, Shape]:
    """Linears that clip their input and output at stored bounds; without bounds if they do not."""
    shapes: dict[str, Shape] = {f"{name}.linear.weight": shape for name, shape in linears.items()}
    return shapes | {f"{name}.{bound}": () for name in linears if clips for bound in BOUNDS}


def repeated(prefix: str, count: int, layer: Mapping[str, Shape]) -> dict[str, Shape]:
    return {f"{prefix}.{index}.{name}": shape for index in range(count) for name, shape in layer.items()}
