"""Released Gemmas by name, and small ones of each family: config.json, and every tensor of the folder.

`released/` holds the released config.json files as they are.  A small shape is a released one with
smaller numbers, so that it keeps every feature.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.errors import GemmaError

from ..model.arrays import Shape
from ..model.config import GemmaConfig, parse_config
from ..model.released_bits import parse_bits
from ..model.tensors import needed
from .quantized_shapes import BFLOAT16, Described, quantized
from .towers import towers

RELEASED = Path(__file__).with_name("released")
SLIDING, FULL = "sliding_attention", "full_attention"
SMALL: dict[str, Any] = {
    "vocab_size": 1024,
    "vocab_size_per_layer_input": 1024,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "head_dim": 16,
    "global_head_dim": 32,
    "sliding_window": 16,
    "max_position_embeddings": 1024,
}
SMALL_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "global_head_dim": 16,
    "position_embedding_size": 64,
}
SMALL_AUDIO: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "subsampling_conv_channels": [16, 8],
    "output_proj_dims": 48,
}


@dataclass(frozen=True)
class NamedShape:
    """A released config.json, and what a small one changes in its parts."""

    name: str
    summary: str
    source: str  # file in `released/`
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by part
    file_bytes: int = 50_000_000_000  # most of one safetensors file; the hub's default

    def config(self) -> dict[str, Any]:
        """The whole config.json."""
        raw: dict[str, Any] = json.loads((RELEASED / self.source).read_text(encoding="utf-8"))
        for part, changes in self.changes.items():
            raw[part] = {**raw[part], **changes}
        return raw

    @property
    def of_integers(self) -> bool:
        return "quantization_config" in self.config()

    def config_bytes(self) -> bytes:
        """config.json as released, byte for byte where nothing is changed."""
        if not self.changes:
            return (RELEASED / self.source).read_bytes()
        return (json.dumps(self.config(), indent=2) + "\n").encode()


def small(changes: Mapping[str, Any], layers: list[str]) -> dict[str, Any]:
    return {**SMALL, "layer_types": layers, "num_hidden_layers": len(layers), **changes}


E2B_TINY = small(
    {"hidden_size_per_layer_input": 8, "num_kv_shared_layers": 3},
    [SLIDING, SLIDING, FULL, SLIDING, FULL, SLIDING, FULL],
)
E4B_TINY = small(
    {"hidden_size_per_layer_input": 8, "num_kv_shared_layers": 3}, [SLIDING, SLIDING, FULL, SLIDING, SLIDING, FULL]
)
RULES_TINY: dict[str, Any] = {  # the released ones, with the border between 4 and 2 bits at a small model's layer
    "^lm_head$": {"num_bits": 2},
    r"audio_tower(?!.*lconv1d\.linear_start)": {"num_bits": 2},
    r"audio_tower\.layers\.\d+\.lconv1d\.linear_start\.": {"num_bits": 4},
    r"language_model\.embed_tokens$": {"num_bits": 2},
    r"language_model\.embed_tokens_per_layer$": {"num_bits": 4},
    r"language_model\.layers\.[0-3]\.mlp\.": {"num_bits": 4},
    r"language_model\.layers\.\d+\.mlp\.": {"num_bits": 2},
    r"language_model\.layers\.\d+\.per_layer_input_gate$": {"num_bits": 8},
    r"language_model\.layers\.\d+\.per_layer_projection$": {"num_bits": 8},
    r"language_model\.layers\.\d+\.self_attn\.": {"num_bits": 4},
    "vision_tower": {"num_bits": 8},
}
BITS_TINY: dict[str, Any] = {"module_quant_configs": RULES_TINY}
DENSE_TINY = small({"num_key_value_heads": 2, "num_global_key_value_heads": 1}, [SLIDING, SLIDING, SLIDING, FULL])
TOWERS: dict[str, Mapping[str, Any]] = {"vision_config": SMALL_VISION, "audio_config": SMALL_AUDIO}

SHAPES = {
    shape.name: shape
    for shape in (
        NamedShape("e2b", "Gemma 4 E2B, 10.2 GB", "e2b.json"),
        NamedShape("e4b", "Gemma 4 E4B, 16.0 GB", "e4b.json"),
        NamedShape("e2b-qat-mobile", "Gemma 4 E2B of 2, 4 and 8 bits, 2.5 GB", "e2b-qat-mobile.json"),
        NamedShape("e4b-qat-mobile", "Gemma 4 E4B of 2, 4 and 8 bits, 3.5 GB", "e4b-qat-mobile.json"),
        NamedShape("e2b-tiny", "as e2b, with 7 small layers", "e2b.json", {"text_config": E2B_TINY, **TOWERS}),
        NamedShape("e4b-tiny", "as e4b, with 6 small layers", "e4b.json", {"text_config": E4B_TINY, **TOWERS}),
        NamedShape("e2b-qat-mobile-tiny", "as e2b-qat-mobile, with 7 small layers", "e2b-qat-mobile.json",
                   {"text_config": E2B_TINY, "quantization_config": BITS_TINY, **TOWERS}),
        NamedShape("e4b-qat-mobile-tiny", "as e4b-qat-mobile, with 6 small layers", "e4b-qat-mobile.json",
                   {"text_config": E4B_TINY, **TOWERS}),
        NamedShape("31b-tiny", "as Gemma 4 31B, with 4 small layers, in several files", "31b.json",
                   {"text_config": DENSE_TINY, "vision_config": SMALL_VISION}, file_bytes=400_000),
        NamedShape("gemma3-tiny", "as Gemma 3 270M, with 4 small layers", "gemma3-tiny.json"),
    )
}  # fmt: skip


def named_shape(name: str) -> NamedShape:
    """Raises GemmaError for a shape that there is not."""
    if name not in SHAPES:
        raise GemmaError(f"unknown shape: {name}", f"choose from {', '.join(SHAPES)}")
    return SHAPES[name]


def released_tensors(raw: Mapping[str, Any], where: str) -> dict[str, Described]:
    """Every tensor of a released folder by its released name: the text model, dead ones too, and the towers.

    In the order of a safetensors file: by dtype, then by name.
    """
    config, bits = parse_config(raw, where), parse_bits(raw)
    prefix = "model.language_model." if "text_config" in raw else "model."
    text = needed(config) | dead(config)
    shapes = {prefix + name: shape for name, shape in text.items()} | towers(raw)
    if bits:
        return quantized(config, shapes, bits, raw["quantization_config"].get("modules_to_not_convert") or [])
    return {name: Described(BFLOAT16, shape) for name, shape in sorted(shapes.items())}


def dead(config: GemmaConfig) -> dict[str, Shape]:
    """Keys and values of layers that read another's: in the release, and never used."""
    shapes: dict[str, Shape] = {}
    for layer in config.layers:
        if not layer.owns_kv:
            name, rows = f"layers.{layer.index}.self_attn", layer.kv_heads * layer.head_dim
            shapes[f"{name}.k_proj.weight"] = (rows, config.hidden)
            shapes[f"{name}.v_proj.weight"] = (rows, config.hidden)
            shapes[f"{name}.k_norm.weight"] = (layer.head_dim,)
    return shapes
