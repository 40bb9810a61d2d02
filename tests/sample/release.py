"""The sample as a mobile release: packed integers, and static ranges of activations that it was trained with.

`ranges.npz` holds what training changed: steps between the integers that plain rounding gives and those of the
release, the norms, and the ranges.  The checkpoint beside it gives the rest.

    python tests/sample/release.py FOLDER
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from quantize.pack import pack

SAMPLE = Path(__file__).parent / "checkpoint"
DIFFERENCE = Path(__file__).parent / "ranges.npz"
QUESTIONS = Path(__file__).parent / "held_out.json"
EIGHT_BITS = ("embed_tokens", "per_layer_input_gate", "per_layer_projection", "lm_head")
FLOATS = ["per_layer_model_projection"]
RULES = {"^lm_head$": 8, "embed_tokens": 8, "per_layer_input_gate": 8, "per_layer_projection": 8}
Floats = NDArray[np.float32]
Codes = NDArray[np.int8]


def bits_of(module: str) -> int:
    return 8 if any(name in module for name in EIGHT_BITS) else 4


def scales_of(weight: Floats, bits: int) -> Floats:
    """One for each row (rows, 1): the largest size is the largest integer."""
    largest = np.abs(weight).max(1, keepdims=True) / np.float32((1 << (bits - 1)) - 1)
    scales: Floats = np.maximum(largest, np.finfo(np.float32).tiny)
    return scales


def rounded(weight: Floats, bits: int) -> Codes:
    most = (1 << (bits - 1)) - 1
    codes: Codes = np.rint(weight / scales_of(weight, bits)).clip(-most - 1, most).astype(np.int8)
    return codes


def linears(stored: Mapping[str, torch.Tensor]) -> list[str]:
    """Modules of the layers' linears."""
    names = (name.removesuffix(".weight") for name, value in stored.items() if value.ndim == 2 and ".layers." in name)
    return sorted(names)


def packed(codes: Codes, scales: Floats, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    stored = torch.from_numpy(pack(codes, bits).copy())
    return stored.view(torch.int8) if bits == 8 else stored, torch.from_numpy(scales.astype(np.float32).copy())


def write_release(
    folder: Path, codes: Mapping[str, Codes], vectors: Mapping[str, Floats], ranges: Mapping[str, float]
) -> None:
    """The sample in the layout of a release.

    codes: of linears, by module, if not those of plain rounding; vectors: norms and scalars by tensor, if other than
    the sample's; ranges: of activations by tensor, zero for those that are left out
    """
    stored = load_file(SAMPLE / "model.safetensors")
    found: dict[str, torch.Tensor] = {}
    for module in ("model.embed_tokens", "model.embed_tokens_per_layer"):
        weight = stored.pop(f"{module}.weight").float().numpy()
        integers = packed(rounded(weight, 8), scales_of(weight, 8), 8)
        found |= {f"{module}.embedding_quantized": integers[0], f"{module}.embedding_scale": integers[1]}
    table = (found["model.embed_tokens.embedding_quantized"], found["model.embed_tokens.embedding_scale"])
    found |= {"lm_head.weight": table[0].clone(), "lm_head.weight_scale": table[1].clone()}
    for module in linears(stored):
        weight, bits = stored.pop(f"{module}.weight").float().numpy(), bits_of(module)
        integers = packed(codes.get(module, rounded(weight, bits)), scales_of(weight, bits), bits)
        found |= {f"{module}.weight": integers[0], f"{module}.weight_scale": integers[1]}
    for module in (*linears(load_file(SAMPLE / "model.safetensors")), "lm_head"):
        for end in ("input", "output"):
            name = f"{module}.{end}_activation_scale"
            found[name] = torch.tensor(ranges.get(name, 0.0), dtype=torch.float32)
    found |= stored | {name: torch.from_numpy(value.copy()).bfloat16() for name, value in vectors.items()}
    folder.mkdir(parents=True)
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config()))
    for name in ("generation_config.json", "tokenizer.json", "chat_template.jinja"):
        shutil.copyfile(SAMPLE / name, folder / name)


def config() -> dict[str, object]:
    found: dict[str, object] = json.loads((SAMPLE / "config.json").read_text())
    quantization = {
        "quant_method": "gemma", "num_bits": 4, "quantize_embeddings": True,
        "module_quant_configs": {pattern: {"num_bits": bits} for pattern, bits in RULES.items()},
        "modules_to_not_convert": FLOATS,
    }  # fmt: skip
    return found | {"tie_word_embeddings": False, "quantization_config": quantization}


def save_difference(codes: Mapping[str, Codes], vectors: Mapping[str, Floats], ranges: Mapping[str, float]) -> None:
    stored = load_file(SAMPLE / "model.safetensors")
    steps = {
        f"steps/{module}": made - rounded(stored[f"{module}.weight"].float().numpy(), bits_of(module))
        for module, made in codes.items()
    }
    halves = {f"vector/{name}": value.astype(np.float32) for name, value in vectors.items()}
    scales = {f"range/{name}": np.float32(value) for name, value in ranges.items()}
    np.savez_compressed(DIFFERENCE, allow_pickle=False, **steps, **halves, **scales)


def read_difference() -> tuple[dict[str, Codes], dict[str, Floats], dict[str, float]]:
    """Integers of linears by module, norms by tensor, and ranges."""
    stored = load_file(SAMPLE / "model.safetensors")
    codes: dict[str, Codes] = {}
    vectors: dict[str, Floats] = {}
    ranges: dict[str, float] = {}
    with np.load(DIFFERENCE, allow_pickle=False) as difference:
        for key in difference.files:
            kind, _, name = key.partition("/")
            if kind == "steps":
                codes[name] = rounded(stored[f"{name}.weight"].float().numpy(), bits_of(name)) + difference[key]
            elif kind == "vector":
                vectors[name] = difference[key]
            else:
                ranges[name] = float(difference[key])
    return codes, vectors, ranges


def sample_release(folder: Path) -> Path:
    """The trained release, from the checkpoint and the difference."""
    write_release(folder, *read_difference())
    return folder


if __name__ == "__main__":
    print(sample_release(Path(sys.argv[1])))
