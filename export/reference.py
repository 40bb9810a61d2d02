"""The model in float32, one layer in memory at a time: what an artifact is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from runtime.bundle.manifest import Rope
from runtime.bundle.row_table import RowTable
from runtime.engine.head import Head
from runtime.engine.rotary import rotary_table

from .checkpoint.checkpoint import Checkpoint
from .model.arrays import Floats, Ids
from .model.config import GemmaConfig, LayerConfig
from .model.decoder import KV, Layer, PerLayerInputs, RMSNorm, TextDecoder, softcapped
from .model.tensors import HEAD
from .weights.linears import Weights, gathered, piece_rows
from .weights.plan import Placement, placements

HEAD_ROWS = 4096


class Source(Protocol):
    """Where a reference takes its values from."""

    @property
    def config(self) -> GemmaConfig: ...
    def floats(self, parameter: str) -> Floats: ...
    def read_rows(self, parameter: str, step: int) -> Iterator[Floats]: ...
    def rows(self, table: str, ids: Ids) -> Floats:
        """Multiplied-out rows of a table, (n, layers · dim)."""
        ...


@dataclass(frozen=True)
class FloatSource:
    """The checkpoint's own values."""

    checkpoint: Checkpoint

    @property
    def config(self) -> GemmaConfig:
        return self.checkpoint.config

    @cached_property
    def placements(self) -> dict[str, Placement]:
        """Say where each parameter comes from.

        A stored head is read by itself, so that an export that takes the token table for it does not agree.
        """
        by_parameter = {place.parameter: place for place in placements(self.config) if place.parameter}
        if self.checkpoint.head:
            by_parameter["head.weight"] = replace(by_parameter["head.weight"], tensor=HEAD)
        return by_parameter

    def floats(self, parameter: str) -> Floats:
        weight = self.placements[parameter]
        if not weight.inputs:
            return self.checkpoint.read(weight.tensor)
        pieces = self.checkpoint.read_rows(weight.tensor, weight.rows, piece_rows(weight.inputs))
        return gathered(pieces, (len(weight.rows), weight.inputs))

    def read_rows(self, parameter: str, step: int) -> Iterator[Floats]:
        weight = self.placements[parameter]
        return self.checkpoint.read_rows(weight.tensor, weight.rows, step)

    def stored(self, parameter: str) -> Tensor:
        """A matrix as the checkpoint holds it: 16 bits are left 16."""
        weight = self.placements[parameter]
        return self.checkpoint.stored(weight.tensor, weight.rows)

    def rows(self, table: str, ids: Ids) -> Floats:
        config = self.checkpoint.config
        if table == "tokens":
            return self.checkpoint.gather("embed_tokens.weight", ids) * np.float32(config.embedding_multiplier)
        return self.checkpoint.gather("embed_tokens_per_layer.weight", ids) * np.float32(config.per_layer_multiplier)


@dataclass(frozen=True)
class QuantizedSource:
    """The values that the integers stand for: what an artifact holds."""

    config: GemmaConfig
    weights: Weights
    tables: dict[str, RowTable]
    head: Head | None = None  # of a two-stage head

    def floats(self, parameter: str) -> Floats:
        return self.weights.floats(parameter)

    def read_rows(self, parameter: str, step: int) -> Iterator[Floats]:
        return self.weights.read_rows(parameter, step)

    def rows(self, table: str, ids: Ids) -> Floats:
        return self.tables[table].rows(ids).reshape(len(ids), -1)


def load(module: nn.Module, source: Source, prefix: str) -> nn.Module:
    """Fill a module that was made on the meta device."""
    names = [name for name, _ in module.named_parameters()]
    values = {name: torch.from_numpy(np.require(source.floats(prefix + name), requirements="W")) for name in names}
    module.load_state_dict(values, assign=True)
    return module


@dataclass
class Pass:
    """Sequences on their way through the layers: x (B, T, hidden), and the keys and values that were made."""

    x: Tensor
    slices: list[Tensor]
    positions: Tensor
    ropes: dict[str, KV]
    presents: dict[int, KV]

    @classmethod
    def begun(cls, source: Source, ids: Ids, dtype: torch.dtype) -> Pass:
        """Ids (B, T), embedded."""
        x, count = embedded(source, ids).to(dtype), ids.shape[1]
        slices = per_layer_inputs(source)(ids, x)
        return cls(x, slices, torch.arange(count)[None], rotary_tables(source.config, count), {})

    def through(self, layer: LayerConfig, module: Layer) -> None:
        nothing = self.x.new_zeros(len(self.x), layer.kv_heads, 0, layer.head_dim)
        kv = (nothing, nothing) if layer.owns_kv else self.presents[layer.source]
        per_layer = self.slices[layer.index] if self.slices else None
        scales = module.self_attn.cache_scales
        rope = self.ropes[layer.kind]
        self.x, self.presents[layer.index] = module(self.x, per_layer, self.positions, rope, kv, scales)


@torch.no_grad()
def hidden_states(
    source: Source,
    ids: Ids,
    see: Callable[[int, Tensor, Tensor], None] | None = None,
    progress: Callable[[float], None] = lambda done: None,
    dtype: torch.dtype = torch.float32,
) -> NDArray[Any]:
    """Sequences of one length, ids (B, T), to the hidden states after the final norm, (B, T, hidden).

    Every layer sees every position, without the shortcut over shared layers, so that a reference
    also proves the shortcut.  `see` is shown each layer's own keys and values, (B, K, T, D).
    """
    passing = Pass.begun(source, ids, dtype)
    for layer in source.config.layers:
        passing.through(layer, load_layer(source, layer))
        if see and layer.owns_kv:
            see(layer.index, *passing.presents[layer.index])
        progress(1)
    return np.asarray(final_norm(source)(passing.x))


@torch.no_grad()
def hidden_states_twice(source: Source, ids: Ids, count: int) -> tuple[Floats, NDArray[np.float64]]:
    """Hidden states as `hidden_states` gives them, and those of the first `count` tokens in float64.

    Each layer is loaded once for both.

    Products in float64 widen a few rows of a weight at a time.
    """
    passes = [Pass.begun(source, ids, torch.float32), Pass.begun(source, ids[:, :count], torch.float64)]
    for layer in source.config.layers:
        module = load_layer(source, layer)
        for passing in passes:
            passing.through(layer, module)
        del module  # before there is the next
    narrow, wide = (np.asarray(final_norm(source)(passing.x)) for passing in passes)
    return narrow, wide


def load_layer(source: Source, layer: LayerConfig) -> Layer:
    with torch.device("meta"):
        module = Layer(source.config, layer)
    load(module, source, f"layers.{layer.index}.")
    return module


def final_norm(source: Source) -> nn.Module:
    with torch.device("meta"):
        norm = RMSNorm(source.config.hidden, source.config.eps)
    return load(norm, source, "norm.")


def embedded(source: Source, ids: Ids) -> Tensor:
    """Ids (B, T) to (B, T, hidden)."""
    return torch.from_numpy(source.rows("tokens", ids.ravel())).view(*ids.shape, -1)


def rotary_tables(config: GemmaConfig, rows: int) -> dict[str, KV]:
    return {
        kind: tables(Rope(theta=r.theta, head_dim=r.head_dim, rotated_pairs=r.rotated_pairs), rows)
        for kind, r in config.ropes
    }


def tables(rope: Rope, rows: int) -> KV:
    cos, sin = rotary_table(rope, rows)
    return torch.from_numpy(cos), torch.from_numpy(sin)


def per_layer_inputs(source: Source) -> Callable[[Ids, Tensor], list[Tensor]]:
    """What gives each layer its input (B, T, per_layer_dim), from ids (B, T) and their embeddings; none without."""
    config = source.config
    if not config.per_layer_dim:
        return lambda ids, embeds: []
    edge = config.own_kv_layers * config.per_layer_dim
    with torch.device("meta"):
        norm = RMSNorm(config.per_layer_dim, config.eps)
        modules = {"per_layer_own": PerLayerInputs(config, config.own_kv_layers)}
        if config.shared_layers:
            modules["per_layer_shared"] = PerLayerInputs(config, config.shared_layers)
    for name, module in (("per_layer_projection_norm", norm), *modules.items()):
        load(module, source, f"{name}.")

    def slices(ids: Ids, embeds: Tensor) -> list[Tensor]:
        rows = torch.from_numpy(source.rows("per_layer", ids.ravel())).view(*ids.shape, -1)
        pieces = zip(modules.values(), rows.tensor_split([edge], -1), strict=False)
        return [inputs for module, piece in pieces for inputs in module(embeds, piece, norm)]

    return slices


def logits(source: Source, hidden: NDArray[Any]) -> Floats:
    """Hidden states (n, hidden) to logits (n, vocab), a piece of the head at a time, in the dtype of the states."""
    x, cap, start = torch.from_numpy(hidden), source.config.softcap, 0
    whole_logits = np.empty((len(hidden), source.config.vocab), np.float32)
    for piece in source.read_rows("head.weight", HEAD_ROWS):
        part = softcapped(x @ torch.from_numpy(np.require(piece, requirements="W")).to(x.dtype).T, cap)
        whole_logits[:, start : start + len(piece)] = part
        start += len(piece)
    if isinstance(source, QuantizedSource) and source.head:
        source.head.rescore(whole_logits, hidden)
    return whole_logits


def whole(source: Source) -> TextDecoder:
    """The whole model in memory: for small ones, and for tests."""
    with torch.device("meta"):
        model = TextDecoder(source.config)
    load(model, source, "")
    return model.eval()
