"""Every weight of the graph, quantized once, on disk as plain arrays for all backends to map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quantize.affine import Floats, Loss, Quantized, quantize
from quantize.recipe import Recipe
from quantize.scheme import Scheme

from .checkpoint import Checkpoint
from .config import GemmaConfig
from .tensors import needed

PIECE_BYTES = 32 << 20  # floats of one matrix that are in memory at a time


@dataclass(frozen=True)
class Unit:
    """A parameter of the graph, and where in the checkpoint it comes from."""

    parameter: str
    tensor: str
    rows: range  # of the tensor
    inputs: int  # 0: a vector, kept as floats
    label: str  # what a recipe's pattern is matched with


def units(config: GemmaConfig) -> list[Unit]:
    """All parameters of model.Decoder, in the checkpoint's terms."""
    found = []
    for tensor, shape in needed(config).items():
        label = tensor.removesuffix(".weight")
        inputs = shape[1] if len(shape) == 2 else 0
        if label == "embed_tokens":
            found.append(Unit("head.weight", tensor, range(shape[0]), inputs, "head"))
        elif label == "per_layer_model_projection":
            edge = config.own_kv_layers * config.per_layer_dim
            found.append(Unit("per_layer_own.projection.weight", tensor, range(edge), inputs, label))
            if edge < shape[0]:
                found.append(Unit("per_layer_shared.projection.weight", tensor, range(edge, shape[0]), inputs, label))
        elif label != "embed_tokens_per_layer":
            found.append(Unit(tensor, tensor, range(shape[0]), inputs, label))
    return found


@dataclass(frozen=True)
class Weights(Mapping[str, "Quantized | Floats"]):
    """Parameter name -> integers and scales, or floats; mapped from `folder`."""

    folder: Path
    schemes: dict[str, tuple[Scheme, int]]  # scheme and inputs, by parameter

    def __getitem__(self, parameter: str) -> Quantized | Floats:
        scheme, inputs = self.schemes[parameter]
        if scheme.is_float:
            return self.load(parameter, "values")
        return Quantized(self.load(parameter, "packed"), self.load(parameter, "scales"), scheme, inputs)

    def __iter__(self) -> Iterator[str]:
        return iter(self.schemes)

    def __len__(self) -> int:
        return len(self.schemes)

    def load(self, parameter: str, part: str) -> np.ndarray:
        loaded: np.ndarray = np.load(self.folder / f"{parameter}.{part}.npy", mmap_mode="r", allow_pickle=False)
        return loaded

    def floats(self, parameter: str) -> Floats:
        """The values that a backend computes with, float32."""
        stored = self[parameter]
        return stored.dequantize() if isinstance(stored, Quantized) else np.asarray(stored)

    def read_rows(self, parameter: str, step: int) -> Iterator[Floats]:
        """As `floats`, in pieces of rows."""
        stored = self[parameter]
        if not isinstance(stored, Quantized):
            yield from (np.asarray(stored[i : i + step]) for i in range(0, len(stored), step))
            return
        for i in range(0, stored.rows, step):
            piece = Quantized(stored.packed[i : i + step], stored.scales[i : i + step], stored.scheme, stored.inputs)
            yield piece.dequantize()


def quantize_weights(
    checkpoint: Checkpoint, recipe: Recipe, folder: Path, progress: Callable[[float], None] = lambda done: None
) -> tuple[Weights, dict[str, Loss]]:
    """Quantize every unit, a piece at a time; the loss by scheme."""
    folder.mkdir()
    schemes: dict[str, tuple[Scheme, int]] = {}
    losses: dict[str, Loss] = {}
    for unit in units(checkpoint.config):
        scheme = recipe.scheme(unit.label) if unit.inputs else Scheme(0)
        schemes[unit.parameter] = (scheme, unit.inputs)
        if not unit.inputs:
            np.save(folder / f"{unit.parameter}.values.npy", checkpoint.read(unit.tensor))
            continue
        loss = write_unit(checkpoint, unit, scheme, recipe.scales, folder)
        losses[str(scheme)] = losses.get(str(scheme), Loss()) + loss
        progress(len(unit.rows) * unit.inputs)
    return Weights(folder, schemes), losses


def write_unit(checkpoint: Checkpoint, unit: Unit, scheme: Scheme, scales: str, folder: Path) -> Loss:
    step = max(1, PIECE_BYTES // (4 * unit.inputs))
    pieces = checkpoint.read_rows(unit.tensor, unit.rows, step)
    if scheme.is_float:
        values = created(folder, unit, "values", (len(unit.rows), unit.inputs), np.float32)
        for start, piece in zip(range(0, len(unit.rows), step), pieces, strict=True):
            values[start : start + step] = piece
        return Loss()
    packed = created(folder, unit, "packed", (len(unit.rows), scheme.packed_bytes(unit.inputs)), np.uint8)
    chosen = created(folder, unit, "scales", (len(unit.rows), scheme.groups(unit.inputs)), np.float32)
    total = Loss()
    for start, piece in zip(range(0, len(unit.rows), step), pieces, strict=True):
        made, loss = quantize(piece, scheme, scales)
        packed[start : start + step], chosen[start : start + step] = made.packed, made.scales
        total += loss
    return total


def created(folder: Path, unit: Unit, part: str, shape: tuple[int, int], dtype: type) -> np.memmap:
    return np.lib.format.open_memmap(folder / f"{unit.parameter}.{part}.npy", "w+", dtype, shape)


def bytes_of(config: GemmaConfig, recipe: Recipe) -> int:
    """Bytes of integers, scales (two each) and floats of the graph's weights under a recipe."""
    total = 0
    for unit in units(config):
        scheme = recipe.scheme(unit.label) if unit.inputs else Scheme(0)
        count = len(unit.rows)
        if scheme.is_float:
            total += 4 * count * max(1, unit.inputs)
        else:
            total += count * (scheme.packed_bytes(unit.inputs) + 2 * scheme.groups(unit.inputs))
    return total


def work(config: GemmaConfig) -> int:
    """Values to quantize, for progress."""
    return sum(len(unit.rows) * unit.inputs for unit in units(config))
