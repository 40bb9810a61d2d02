"""Every weight of the graph, quantized once, on disk as plain arrays for all backends to map."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from quantize.affine import Floats, Loss, Quantized, quantize
from quantize.recipe import Recipe
from quantize.scheme import FLOAT, Scheme

from ..checkpoint import released_grid
from ..checkpoint.checkpoint import Checkpoint
from ..model.config import GemmaConfig
from ..model.tensors import HEAD, TABLE, needed

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
    """All parameters of model.TextDecoder, in the checkpoint's terms."""
    found = []
    for tensor, shape in needed(config).items():
        label = tensor.removesuffix(".weight")
        inputs = shape[1] if len(shape) == 2 else 0
        if tensor == TABLE and config.own_head:
            continue  # only row files hold it
        if tensor in (TABLE, HEAD):
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

    def with_vectors(self, vectors: Mapping[str, Floats]) -> Weights:
        """These and some more, which stay floats."""
        for name, values in vectors.items():
            np.save(self.folder / f"{name}.values.npy", values)
        return Weights(self.folder, self.schemes | dict.fromkeys(vectors, (FLOAT, 0)))

    def __getitem__(self, parameter: str) -> Quantized | Floats:
        scheme, inputs = self.schemes[parameter]
        if scheme.is_float:
            return self.load(parameter, "values")
        return self._quantized(parameter)

    def __iter__(self) -> Iterator[str]:
        return iter(self.schemes)

    def __len__(self) -> int:
        return len(self.schemes)

    def _quantized(self, parameter: str) -> Quantized:
        scheme, inputs = self.schemes[parameter]
        return Quantized(self.load(parameter, "packed"), self.load(parameter, "scales"), scheme, inputs)

    def load(self, parameter: str, part: str) -> np.ndarray:
        loaded: np.ndarray = np.load(self.folder / f"{parameter}.{part}.npy", mmap_mode="r", allow_pickle=False)
        return loaded

    def floats(self, parameter: str) -> Floats:
        """The values that a backend computes with, float32."""
        stored = self[parameter]
        if not isinstance(stored, Quantized):
            return np.asarray(stored)
        return gathered(self.read_rows(parameter, piece_rows(stored.inputs)), (stored.rows, stored.inputs))

    def read_rows(self, parameter: str, step: int) -> Iterator[Floats]:
        """As `floats`, in pieces of rows."""
        stored = self[parameter]
        if not isinstance(stored, Quantized):
            yield from (np.asarray(stored[i : i + step]) for i in range(0, len(stored), step))
            return
        for i in range(0, stored.rows, step):
            stored = self._quantized(parameter)  # mapped anew: pages of a mapping stay in memory as long as it does
            yield stored.part(i, i + step).dequantize()


def piece_rows(inputs: int) -> int:
    return max(1, PIECE_BYTES // (4 * inputs))


def gathered(pieces: Iterable[Floats], shape: tuple[int, ...]) -> Floats:
    """Pieces of rows as one matrix, which is never there twice."""
    whole, start = np.empty(shape, np.float32), 0
    for piece in pieces:
        whole[start : start + len(piece)] = piece
        start += len(piece)
    return whole


Rounding = Callable[[Floats], tuple[Quantized, Loss]]


@dataclass(frozen=True)
class Calibrated:
    """What calibration has quantized already: all layers.

    schemes: scheme and inputs, by parameter; losses: by scheme; head: how rows of the head are
    rounded; values: what a layer's values were divided by, (1, kv_heads, 1, dim), by layer
    """

    schemes: dict[str, tuple[Scheme, int]]
    losses: dict[str, Loss]
    head: Rounding
    values: dict[int, Floats]


def quantize_weights(
    checkpoint: Checkpoint,
    recipe: Recipe,
    folder: Path,
    progress: Callable[[float], None] = lambda done: None,
    calibrated: Calibrated | None = None,
) -> tuple[Weights, dict[str, Loss]]:
    """Quantize every unit into `folder`, where calibrated ones are already, a piece at a time; the loss by scheme."""
    schemes = dict(calibrated.schemes) if calibrated else {}
    losses = dict(calibrated.losses) if calibrated else {}
    recovery = released_grid.Recovery()
    for unit in units(checkpoint.config):
        if unit.parameter in schemes:
            continue
        scheme = scheme_of(checkpoint, unit, recipe)
        schemes[unit.parameter] = (scheme, unit.inputs)
        if recipe.released and checkpoint.packed(unit.tensor):
            write_packed(checkpoint, unit, folder)
            progress(len(unit.rows) * unit.inputs)
        elif unit.inputs:
            plain = partial(quantize, scheme=scheme, scales=recipe.scales_of(unit.label))
            rounding = calibrated.head if calibrated and unit.label == "head" else plain
            if recipe.released and unit.tensor in checkpoint.on_grid:
                rounding = recovery
            loss = write_unit(checkpoint, unit, scheme, rounding, folder)
            losses[str(scheme)] = losses.get(str(scheme), Loss()) + loss
            progress(len(unit.rows) * unit.inputs)
        else:
            np.save(folder / f"{unit.parameter}.values.npy", checkpoint.read(unit.tensor))
    recovery.check(str(checkpoint.folder))
    return Weights(folder, schemes), losses


def scheme_of(checkpoint: Checkpoint, unit: Unit, recipe: Recipe) -> Scheme:
    """How a unit is stored: as it is released, if the recipe says so, else by the recipe's rules."""
    packed = checkpoint.packed(unit.tensor)
    if packed and recipe.released:
        return packed.scheme
    if recipe.released and unit.tensor in checkpoint.on_grid:
        return released_grid.SCHEME
    return recipe.scheme(unit.label) if unit.inputs else FLOAT


def write_packed(checkpoint: Checkpoint, unit: Unit, folder: Path) -> None:
    """Write `packed` and `scales` of one matrix as they are released."""
    entry = checkpoint.packed(unit.tensor)
    assert entry is not None
    path, rows, scheme = str(folder / unit.parameter), len(unit.rows), entry.scheme
    step = max(1, PIECE_BYTES // scheme.packed_bytes(unit.inputs))
    with (
        ArrayFile(f"{path}.packed.npy", (rows, scheme.packed_bytes(unit.inputs)), np.uint8) as packed,
        ArrayFile(f"{path}.scales.npy", (rows, scheme.groups(unit.inputs)), np.float32) as scales,
    ):
        for start in unit.rows[::step]:
            made = entry.quantized(range(start, min(start + step, unit.rows.stop)))
            packed.write(made.packed)
            scales.write(made.scales)


def write_unit(checkpoint: Checkpoint, unit: Unit, scheme: Scheme, rounding: Rounding, folder: Path) -> Loss:
    """Write `packed` and `scales`, or `values`, of one matrix."""
    rows, total = len(unit.rows), Loss()
    pieces = checkpoint.read_rows(unit.tensor, unit.rows, piece_rows(unit.inputs))
    path = str(folder / unit.parameter)
    if scheme.is_float:
        with ArrayFile(f"{path}.values.npy", (rows, unit.inputs), np.float32) as values:
            for piece in pieces:
                values.write(piece)
        return total
    packed_shape, scales_shape = (rows, scheme.packed_bytes(unit.inputs)), (rows, scheme.groups(unit.inputs))
    with (
        ArrayFile(f"{path}.packed.npy", packed_shape, np.uint8) as packed,
        ArrayFile(f"{path}.scales.npy", scales_shape, np.float32) as chosen,
    ):
        for piece in pieces:
            made, loss = rounding(piece)
            packed.write(made.packed)
            chosen.write(made.scales)
            total += loss
    return total


class ArrayFile:
    """A .npy file written in pieces: a full disk is an error here, and a crash in a mapped array."""

    def __init__(self, path: str, shape: tuple[int, int], dtype: type) -> None:
        self._file = open(path, "wb")  # noqa: SIM115  closed by __exit__
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)  # type: ignore[no-untyped-call]

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, piece: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(piece).data)


def bytes_of(checkpoint: Checkpoint, recipe: Recipe) -> int:
    """Bytes of integers, scales (two each) and floats of the graph's weights under a recipe."""
    total = 0
    for unit in units(checkpoint.config):
        scheme = scheme_of(checkpoint, unit, recipe)
        count = len(unit.rows)
        if scheme.is_float:
            total += 4 * count * max(1, unit.inputs)
        else:
            total += count * (scheme.packed_bytes(unit.inputs) + 2 * scheme.groups(unit.inputs))
    return total


def work(config: GemmaConfig) -> int:
    """Values to quantize, for progress."""
    return sum(len(unit.rows) * unit.inputs for unit in units(config))
