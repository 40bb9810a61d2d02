"""The tensors of a quantized release: what a matrix of floats becomes, by name, dtype and shape.

Source: transformers' integrations/gemma_quant.py, and the files of the releases, whose sizes are met to the byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quantize.scheme import Scheme

from ..model.arrays import Shape
from ..model.config import GemmaConfig
from ..model.released_bits import ACTIVATIONS, CACHES, ReleasedBits
from ..model.tensors import HEAD, our_name

BFLOAT16 = "BF16"
ORDER = ("F32", BFLOAT16, "I8", "U8")  # of dtypes in a safetensors file
FLOATS = re.compile(r"model\.(audio_tower|embed_vision|embed_audio)\.")  # what stays float32 if it stays float
BOUNDARY = r"(?:(?<=\.)|(?=\.|$))"  # of module names, as transformers sees them


@dataclass(frozen=True)
class Described:
    """dtype and shape as in the file; bits of packed integers, else 0; inputs of a scale's rows, else 0."""

    dtype: str
    shape: Shape
    bits: int = 0
    inputs: int = 0


def quantized(
    config: GemmaConfig, shapes: Mapping[str, Shape], bits: ReleasedBits, kept: Sequence[str]
) -> dict[str, Described]:
    """What the tensors of the unquantized release become, in a file's order; modules that `kept` names stay floats."""
    table = next(name for name in shapes if our_name(name) == "embed_tokens.weight")
    prefix = table.removesuffix("embed_tokens.weight")
    tensors: dict[str, Described] = {}
    for name, shape in {**shapes, HEAD: shapes[table]}.items():
        module = name.removesuffix(".weight")
        if dead_norm(config, name):
            continue
        if len(shape) == 2 and module != name and not keeps(module, kept):
            scales = len(config.layers) if "per_layer" in module and "embed" in module else 1
            tensors |= packed(module, shape, bits.of(module), scales)
        else:
            tensors[name] = Described("F32" if FLOATS.match(name) else BFLOAT16, shape)
    for layer in config.layers:
        for part in CACHES:
            tensors[f"{prefix}layers.{layer.index}.self_attn.{part}"] = Described("F32", ())
    return dict(sorted(tensors.items(), key=lambda item: (ORDER.index(item[1].dtype), item[0])))


def packed(module: str, shape: Shape, bits: int, scales: int) -> dict[str, Described]:
    (rows, inputs), embedding = shape, ".embed_tokens" in module
    codes, scale = ("embedding_quantized", "embedding_scale") if embedding else ("weight", "weight_scale")
    tensors = {
        f"{module}.{codes}": Described("I8" if bits == 8 else "U8", (rows, Scheme(bits).packed_bytes(inputs)), bits),
        f"{module}.{scale}": Described("F32", (rows, scales), bits, inputs),
    }
    return tensors if embedding else tensors | {f"{module}.{part}": Described("F32", ()) for part in ACTIVATIONS}


def keeps(module: str, kept: Sequence[str]) -> bool:
    """Whether a module stays floats, as transformers' should_convert_module decides."""
    return any(re.match(rf"(?:{key}){BOUNDARY}", module) or module.endswith(key) for key in kept)


def dead_norm(config: GemmaConfig, name: str) -> bool:
    """k_norm of a layer without keys: not in a quantized release, unlike its k_proj and v_proj."""
    layer = re.fullmatch(r"layers\.(\d+)\.self_attn\.k_norm\.weight", our_name(name))
    return layer is not None and not config.layers[int(layer[1])].owns_kv
