"""How long a calibration will take, before it starts."""

from __future__ import annotations

import time

import torch

from quantize.recipe import Recipe

from .config import GemmaConfig, LayerConfig
from .tensors import of_layer

SEARCH = 7e-8  # seconds a weight, for the search of scales on one core
FACTOR = 0.4  # of a matmul's rate, in the factor of a Hessian


def projected_seconds(config: GemmaConfig, recipe: Recipe, tokens: int, written: bool) -> float:
    """From a matmul that is measured now, and the operations of each stage."""
    rate = matmul_rate()
    passes = 1 + written
    total = 2 * written * tokens * config.vocab * config.hidden / rate
    for layer in config.layers:
        matrices = [shape for shape in of_layer(config, layer).values() if len(shape) == 2]
        weights = sum(rows * inputs for rows, inputs in matrices)
        total += 2 * passes * tokens * weights / rate + SEARCH * weights
        if recipe.gptq:
            total += sum(2 * tokens * d**2 + 8 / 3 * d**3 / FACTOR for d in widths(config, layer)) / rate
            total += sum(2 * rows * inputs**2 for rows, inputs in matrices) / rate
    return total


def widths(config: GemmaConfig, layer: LayerConfig) -> tuple[int, ...]:
    """Of the inputs that linears read."""
    return config.hidden, layer.heads * layer.head_dim, config.hidden, layer.intermediate


def matmul_rate(size: int = 1024) -> float:
    """Operations a second in float32."""
    a = torch.randn(size, size)
    a @ a
    begun = time.perf_counter()
    for _ in range(5):
        a @ a
    return 5 * 2 * size**3 / (time.perf_counter() - begun)
