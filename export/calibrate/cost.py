"""How long a calibration will take, before it starts: its operations, over a rate that is measured now.

What is no large product is told in the operations of one that would take as long (DECISIONS.md).
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch

from quantize.recipe import Recipe
from quantize.refine import PASSES

from ..weights.plan import StoragePlan, StoredTensor
from .folding import INPUTS

SMALL = 0.7  # of a large product's rate: products of few rows, decompositions
SEARCH = 7_000  # for each weight: the search for scales
ROUND, REFINE = 10_000, 10_000  # for each weight: GPTQ, and a pass of refinement, beside their products
OUTER = 1.2  # of half a product with itself: it is computed in bands


def projected_seconds(plan: StoragePlan, layers: int, recipe: Recipe, tokens: int, *, written: bool) -> float:
    """Seconds for all layers and the head; `written` if the model writes its own text."""
    matrices = {weight.name: weight for weight in plan.weights if weight.inputs}
    head = matrices["head"]
    total = SEARCH * head.values + 2 * written * tokens * head.values / SMALL
    if recipe.gptq:
        total += ROUND * head.values + head.values * head.inputs / SMALL
    for layer in range(layers):
        prefix = f"layers.{layer}."
        own = {name.removeprefix(prefix): weight for name, weight in matrices.items() if name.startswith(prefix)}
        values = sum(weight.values for weight in own.values())
        total += 2 * tokens * values * (1 + written / SMALL) + SEARCH * values
        total += gptq_operations(own, tokens) if recipe.gptq else 0
    return total / matmul_rate()


def gptq_operations(matrices: Mapping[str, StoredTensor], tokens: int) -> float:
    """Operations of GPTQ on the linears of one layer, by name."""
    total = 0.0
    for linears in INPUTS.values():
        readers = [matrices[name] for name in linears if name in matrices]
        rows, width = sum(len(matrix.rows) for matrix in readers), readers[0].inputs
        total += OUTER * tokens * width**2
        total += (2 / 3 * width**3 + (1 + 2 * PASSES) * rows * width**2) / SMALL
        total += (ROUND + PASSES * REFINE) * rows * width
    return total


def matmul_rate(size: int = 1024) -> float:
    """Operations a second in float32 of a product of squares, the fastest of a few."""
    a, seconds = torch.randn(size, size), []
    for _ in range(8):
        begun = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - begun)
    return 2 * size**3 / min(seconds)
