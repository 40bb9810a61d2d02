"""How long a calibration will take, before it starts: its operations, over a rate that is measured now.

What is no large product is told in the operations of one that would take as long (DECISIONS.md).
"""

from __future__ import annotations

import time

import torch

from quantize.recipe import Recipe
from quantize.refine import PASSES

from ..model.config import GemmaConfig, LayerConfig
from ..model.tensors import of_layer
from .folding import INPUTS

SMALL = 0.7  # of a large product's rate: products of few rows, decompositions
SEARCH = 7_000  # for each weight: the search for scales
ROUND, REFINE = 10_000, 10_000  # for each weight: GPTQ, and a pass of refinement, beside their products
OUTER = 1.2  # of half a product with itself: it is computed in bands


def projected_seconds(config: GemmaConfig, recipe: Recipe, tokens: int, written: bool) -> float:
    """Of all layers and the head."""
    head = config.vocab * config.hidden
    total = SEARCH * head + 2 * written * tokens * head / SMALL
    if recipe.gptq:
        total += ROUND * head + head * config.hidden / SMALL
    for layer in config.layers:
        matrices = [shape for shape in of_layer(config, layer).values() if len(shape) == 2]
        weights = sum(rows * inputs for rows, inputs in matrices)
        total += 2 * tokens * weights * (1 + written / SMALL) + SEARCH * weights
        total += gptq(config, layer, tokens) if recipe.gptq else 0
    return total / matmul_rate()


def gptq(config: GemmaConfig, layer: LayerConfig, tokens: int) -> float:
    """Operations on the linears of one layer."""
    shapes, total = of_layer(config, layer), 0.0
    for linears in INPUTS.values():
        found = [shapes[f"{name}.weight"] for name in linears if f"{name}.weight" in shapes]
        rows, width = sum(rows for rows, _ in found), found[0][1]
        total += OUTER * tokens * width**2
        total += (2 / 3 * width**3 + (1 + 2 * PASSES) * rows * width**2) / SMALL
        total += (ROUND + PASSES * REFINE) * rows * width
    return total


def matmul_rate(size: int = 1024) -> float:
    """Operations a second in float32: of the fastest of a few."""
    a, seconds = torch.randn(size, size), []
    for _ in range(8):
        begun = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - begun)
    return 2 * size**3 / min(seconds)
