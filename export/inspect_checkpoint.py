"""What is in a checkpoint, and what each recipe would make of it; of its tensors hardly any is read."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from quantize.recipe import DEFAULT, RECIPES, Recipe
from runtime.bundle.kv_bytes import bytes_by_context

from .checkpoint import released_grid
from .checkpoint.checkpoint import Checkpoint
from .choose_recipe import suited
from .model.config import GemmaConfig
from .model.tensors import needed, part
from .weights.linears import bytes_of
from .weights.row_files import row_format, row_tables


def facts(source: str) -> dict[str, Any]:
    """Raises GemmaError for what is not a sound checkpoint."""
    return facts_of(Checkpoint.open(source))


def facts_of(checkpoint: Checkpoint) -> dict[str, Any]:
    config = checkpoint.config
    of_integers = checkpoint.is_packed or bool(checkpoint.on_grid)
    return {
        "kind": "checkpoint",
        "family": config.family,
        "good for": good_for(checkpoint),
        "layers": f"{len(config.layers)}, of which {config.own_kv_layers} own keys and values",
        "context": config.context,
        "window": config.window,
        **({"head": "of its own: not the values of the token embeddings"} if config.own_head else {}),
        "parameters": parameters(config),
        "tensors": {"used": len(checkpoint.entries), "known and not used": len(checkpoint.unused)},
        **({"released as": released_as(checkpoint)} if of_integers else {}),
        **({"activations": activations(checkpoint)} if checkpoint.is_packed else {}),
        **({"notes": "; ".join(checkpoint.notes)} if checkpoint.notes else {}),
        "cache bytes": cache_bytes(config),
        "recipes": {
            name: sizes(checkpoint, suited(recipe, config))
            for name, recipe in RECIPES.items()
            if of_integers or not recipe.released
        },
    }


def good_for(checkpoint: Checkpoint) -> str:
    """What a release of its kind is the best choice for, as README says it with figures."""
    if checkpoint.is_packed:
        return "little memory and speed; for quality take the sibling that ends in -qat-q4_0-unquantized"
    if checkpoint.on_grid:
        return "quality at 4 bits; for less memory take the sibling that ends in -qat-mobile-transformers"
    return "recipes of your own; releases that end in -qat- were trained for few bits"


def released_as(checkpoint: Checkpoint) -> dict[str, str]:
    """Bits of each part of a release of integers."""
    found: dict[str, set[str]] = {}
    for name in checkpoint.entries:
        packed = checkpoint.packed(name)
        if packed or name in checkpoint.on_grid:
            found.setdefault(part(checkpoint.config, name), set()).add(
                str(packed.scheme if packed else released_grid.SCHEME)
            )
    return {name: ", ".join(sorted(schemes)) for name, schemes in found.items()}


def activations(checkpoint: Checkpoint) -> str:
    """Of a release of integers: its static ranges, which every bundle of it keeps."""
    count = len(checkpoint.config.activation_scales)
    return f"static 8-bit ranges before and behind {count} linears" if count else "no static ranges"


def parameters(config: GemmaConfig) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for name, shape in needed(config).items():
        counted[part(config, name)] += int(np.prod(shape))
    return dict(counted)


def sizes(checkpoint: Checkpoint, recipe: Recipe) -> dict[str, int]:
    """Bytes on disk, resident (the graph's weights) and flash-mapped (the row files)."""
    resident = bytes_of(checkpoint, recipe)
    mapped = sum(row_format(checkpoint, rows, recipe).nbytes for rows in row_tables(checkpoint.config))
    return {"disk": resident + mapped, "resident": resident, "flash-mapped": mapped}


def cache_bytes(config: GemmaConfig) -> dict[str, int]:
    """Keys and values of the default recipe at some lengths, sliding layers holding their window."""
    dtype = "float32" if RECIPES[DEFAULT].cache.is_float else "int8"
    layers = [(layer, dtype) for layer in config.layers if layer.owns_kv]
    return bytes_by_context(layers, config.window, config.context)
