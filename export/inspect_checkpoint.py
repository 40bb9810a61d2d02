"""What is in a checkpoint, and what each recipe would make of it; of its tensors hardly any is read."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from quantize.recipe import DEFAULT, RECIPES
from runtime.bundle.kv_bytes import bytes_by_context

from .checkpoint.checkpoint import Checkpoint
from .choose_recipe import suited
from .model.config import GemmaConfig
from .model.tensors import needed, part
from .weights.linears import weight_bytes
from .weights.plan import StoragePlan, has_what_it_keeps, storage_plan
from .weights.row_files import row_format


def facts(source: str) -> dict[str, Any]:
    """Raises GemmaError for what is not a sound checkpoint."""
    return facts_of(Checkpoint.open(source))


def facts_of(checkpoint: Checkpoint) -> dict[str, Any]:
    config = checkpoint.config
    return {
        "kind": "checkpoint",
        "family": config.family,
        "good for": GOOD_FOR[checkpoint.released_as],
        "layers": f"{len(config.layers)}, of which {config.own_kv_layers} own keys and values",
        "context": config.context,
        "window": config.window,
        **({"head": "of its own: not the values of the token embeddings"} if config.own_head else {}),
        "parameters": parameters(config),
        "tensors": {"used": len(checkpoint.entries), "known and not used": len(checkpoint.unused)},
        **({"released as": released_bits(checkpoint)} if checkpoint.of_integers else {}),
        **({"activations": activations(checkpoint)} if checkpoint.released_as == "packed" else {}),
        **({"notes": "; ".join(checkpoint.notes)} if checkpoint.notes else {}),
        "cache bytes": cache_bytes(config),
        "recipes": {
            name: sizes(checkpoint, storage_plan(checkpoint, suited(recipe, config)))
            for name, recipe in RECIPES.items()
            if has_what_it_keeps(checkpoint, recipe)
        },
    }


GOOD_FOR = {  # by what is released, as README says it with figures
    "packed": "little memory and speed; for quality take the sibling that ends in -qat-q4_0-unquantized",
    "on_grid": "quality at 4 bits; for less memory take the sibling that ends in -qat-mobile-transformers",
    "float": "recipes of your own; releases that end in -qat- were trained for few bits",
}


def released_bits(checkpoint: Checkpoint) -> dict[str, str]:
    """The schemes of each part of a release of integers."""
    schemes: dict[str, set[str]] = {}
    for name, scheme in checkpoint.released_schemes.items():
        schemes.setdefault(part(checkpoint.config, name), set()).add(str(scheme))
    return {name: ", ".join(sorted(several)) for name, several in schemes.items()}


def activations(checkpoint: Checkpoint) -> str:
    """Say how many static ranges a release of integers has; every bundle of it keeps them."""
    count = len(checkpoint.config.activation_scales)
    return f"static 8-bit ranges before and behind {count} linears" if count else "no static ranges"


def parameters(config: GemmaConfig) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for name, shape in needed(config).items():
        counted[part(config, name)] += int(np.prod(shape))
    return dict(counted)


def sizes(checkpoint: Checkpoint, plan: StoragePlan) -> dict[str, int]:
    """Bytes on disk, resident (the graph's weights) and flash-mapped (the row files)."""
    resident = weight_bytes(plan)
    mapped = sum(row_format(checkpoint, table).nbytes for table in plan.tables)
    return {"disk": resident + mapped, "resident": resident, "flash-mapped": mapped}


def cache_bytes(config: GemmaConfig) -> dict[str, int]:
    """Bytes of the default recipe's keys and values at some lengths; sliding layers hold their window."""
    dtype = "float32" if RECIPES[DEFAULT].cache.is_float else "int8"
    layers = [(layer, dtype) for layer in config.layers if layer.owns_kv]
    return bytes_by_context(layers, config.window, config.context)
