"""The model as a graph: torch.export over weights that are shapes only, so that capture costs no memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from .config import GemmaConfig
from .decoder import TextDecoder


@dataclass(frozen=True)
class Graph:
    """A captured decoder.

    program: its nodes are the operators of operators.py and a few of aten
    inputs, outputs: names in the order of the program's user inputs and outputs
    weights: program input name -> parameter name
    """

    program: ExportedProgram
    config: GemmaConfig
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: dict[str, str]


def capture(config: GemmaConfig) -> Graph:
    with torch.device("meta"):
        model = TextDecoder(config)
        arguments = example(config)
    program = torch.export.export(model, (), arguments, dynamic_shapes=dynamic(config), strict=False)
    share_roundings(program.graph)
    signature = program.graph_signature
    names = input_names(config)
    captured = [name for name in signature.user_inputs if name is not None]
    if len(names) != len(captured):
        raise RuntimeError(f"captured {len(captured)} inputs, expected {len(names)}")
    return Graph(program, config, names, output_names(config), dict(signature.inputs_to_parameters))


def share_roundings(graph: torch.fx.Graph) -> None:
    """What several linears round alike is rounded once: q, k and v read one input with one scale."""
    seen: dict[tuple[Any, ...], torch.fx.Node] = {}
    for node in list(graph.nodes):
        if node.target is torch.ops.gemma_edge.fake_quantize.default:
            first = seen.setdefault(node.args, node)
            if first is not node:
                node.replace_all_uses_with(first)
                graph.erase_node(node)


def example(config: GemmaConfig, tokens: int = 7, kept: int = 3, past: int = 5) -> dict[str, Any]:
    """Arguments of the sizes that stay symbolic."""
    own, dim = config.own_kv_layers, config.per_layer_dim
    rows = kept_rows = None
    if dim:
        rows = torch.empty(1, tokens, own * dim)
        kept_rows = torch.empty(1, kept, config.shared_layers * dim) if config.shared_layers else None
    return {
        "inputs_embeds": torch.empty(1, tokens, config.hidden),
        "per_layer_inputs": rows,
        "per_layer_inputs_kept": kept_rows,
        "positions": torch.zeros(1, tokens, dtype=torch.int64),
        "positions_kept": torch.zeros(1, kept, dtype=torch.int64),
        "kept": torch.zeros(kept, dtype=torch.int64),
        "ropes": [tuple(torch.empty(11, rope.head_dim // 2) for _ in range(2)) for _, rope in config.ropes],
        "pasts": [
            (torch.empty(1, layer.kv_heads, past, layer.head_dim), torch.empty(1, layer.kv_heads, past, layer.head_dim))
            for layer in config.layers
            if layer.owns_kv
        ],
    }  # fmt: skip


def dynamic(config: GemmaConfig) -> dict[str, Any]:
    tokens, kept = Dim("tokens", min=1), Dim("kept", min=1)
    rows, pasts = Dim("rows", min=1), Dim("past", min=1)
    has_rows = bool(config.per_layer_dim)
    return {
        "inputs_embeds": {1: tokens},
        "per_layer_inputs": {1: tokens} if has_rows else None,
        "per_layer_inputs_kept": {1: kept} if has_rows and config.shared_layers else None,
        "positions": {1: tokens},
        "positions_kept": {1: kept},
        "kept": {0: kept},
        "ropes": [({0: rows}, {0: rows}) for _ in config.ropes],
        "pasts": [({2: pasts}, {2: pasts}) for layer in config.layers if layer.owns_kv],
    }


def input_names(config: GemmaConfig) -> tuple[str, ...]:
    rows = ["per_layer_inputs"] if config.per_layer_dim else []
    kept_rows = ["per_layer_inputs_kept"] if config.per_layer_dim and config.shared_layers else []
    ropes = [f"{kind}.{part}" for kind, _ in config.ropes for part in ("cos", "sin")]
    return (
        "inputs_embeds",
        *rows,
        *kept_rows,
        "positions",
        "positions_kept",
        "kept",
        *ropes,
        *cache_names(config, "past"),
    )


def output_names(config: GemmaConfig) -> tuple[str, ...]:
    return ("logits", "hidden", *cache_names(config, "present"))


def cache_names(config: GemmaConfig, when: str) -> list[str]:
    own = [layer.index for layer in config.layers if layer.owns_kv]
    return [f"{when}.{index}.{part}" for index in own for part in ("key", "value")]
