"""Releases whose static ranges clip, and whose branches matter: with and without ranges they answer differently.

A generated release repeats its last token whatever its activations are.  Here the last layer's branches are large,
and each range is what transformers sees pass, cut at a quantile.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, Gemma4ForConditionalGeneration

WEIGHTS = "model.safetensors"
PREFIX = "model.language_model."
BRANCHES = ("post_attention_layernorm", "post_feedforward_layernorm", "post_per_layer_input_norm")
EARLY, LAST = 0.15, 1.4  # weights of these norms: the last layer decides, with little noise of rounding from the others
QUANTILE = 0.9  # of |x|: a tenth is clipped
SCALE = "activation_scale"
OUTPUT = "output_dtype"


@torch.no_grad()
def reference(folder: Path, *, static: bool, dtype: torch.dtype = torch.float32) -> Gemma4ForConditionalGeneration:
    """transformers' model; without static ranges its activations are floats."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, ignore_mismatched_sizes=True)
    assert isinstance(model, Gemma4ForConditionalGeneration)
    # transformers 5.23 expects one scale a row, where the releases have one for each layer.
    table = model.model.language_model.embed_tokens_per_layer
    name = f"{PREFIX}embed_tokens_per_layer.embedding_scale"
    table.embedding_scale = torch.nn.Parameter(load_file(folder / WEIGHTS)[name])
    if not static:
        for key, value in model.named_parameters():
            if key.endswith(SCALE):
                value.zero_()
    widen(model, dtype)
    model.eval()
    return model


def widen(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """In place, to another dtype, the integers as they are."""
    for module in model.modules():
        if hasattr(module, OUTPUT):
            setattr(module, OUTPUT, dtype)
    model.to(dtype)


@torch.no_grad()
def make(folder: Path, *, powers: bool = False, seed: int = 0) -> dict[str, float]:
    """Give a generated release such norms and ranges, in place; the share that each range clips, by its name.

    powers: all scales of linears are powers of two, so that many values lie half-way between two steps
    """
    chance = torch.Generator().manual_seed(seed)
    stored = load_file(folder / WEIGHTS)
    config = json.loads((folder / "config.json").read_text())["text_config"]
    last = f".{config['num_hidden_layers'] - 1}."
    for name, value in stored.items():
        if name.startswith(PREFIX) and name.rpartition(".")[0].endswith(BRANCHES):
            branch = LAST if last in name else EARLY
            stored[name] = (branch * (1 + 0.25 * torch.randn(value.shape, generator=chance))).to(value.dtype)
        elif name.endswith(SCALE):
            stored[name] = torch.zeros_like(value)
        elif powers and name.startswith(PREFIX) and name.endswith(".weight_scale"):
            stored[name] = torch.exp2(torch.log2(value).round())
    save_file(stored, folder / WEIGHTS, metadata={"format": "pt"})
    model, clipped = reference(folder, static=True), dict[str, float]()
    for name, module in model.named_modules():
        if hasattr(module, f"input_{SCALE}") and "language_model" in name:
            module.forward = fitted(module, name, clipped, powers=powers)
    model(input_ids=torch.randint(3, config["vocab_size"], (4, 96), generator=chance))
    for name, module in model.named_modules():
        for end in ("input", "output"):
            if f"{name}.{end}_{SCALE}" in clipped:
                stored[f"{name}.{end}_{SCALE}"] = getattr(module, f"{end}_{SCALE}").detach().clone()
    save_file(stored, folder / WEIGHTS, metadata={"format": "pt"})
    return clipped


def fitted(
    module: torch.nn.Module, name: str, clipped: dict[str, float], *, powers: bool
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The module's own forward, which first fits its ranges to what passes."""
    plain: Callable[[torch.Tensor], torch.Tensor] = module.forward

    def fit(end: str, x: torch.Tensor) -> None:
        scale = float(np.float32(np.quantile(x.abs().numpy(), QUANTILE) / 127))
        scale = float(2 ** np.round(np.log2(scale))) if powers else scale
        getattr(module, f"{end}_{SCALE}").fill_(scale)
        clipped[f"{name}.{end}_{SCALE}"] = float((x.abs() > 127.5 * scale).float().mean())

    def forward(x: torch.Tensor) -> torch.Tensor:
        fit("input", x)
        fit("output", plain(x))
        return plain(x)

    return forward
