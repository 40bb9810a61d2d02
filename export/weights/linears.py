"""Every weight of the graph, quantized once, on disk as plain arrays for all backends to map."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from quantize.affine import Floats, Loss, Quantized, quantize
from quantize.scheme import FLOAT, Scheme

from ..checkpoint import released_grid
from ..checkpoint.checkpoint import Checkpoint
from .plan import StoragePlan, StoredTensor

PIECE_BYTES = 32 << 20  # floats of one matrix that are in memory at a time


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
        """The values of `floats`, in pieces of up to `step` rows."""
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
    """What calibration has chosen already: the integers of all layers.

    parameters: whose integers, or floats, are written; losses: by scheme; head: how rows of the head are rounded;
    values: what a layer's values were divided by, (1, kv_heads, 1, dim), by layer
    """

    parameters: tuple[str, ...]
    losses: dict[str, Loss]
    head: Rounding
    values: dict[int, Floats]


def quantize_weights(
    checkpoint: Checkpoint,
    plan: StoragePlan,
    folder: Path,
    progress: Callable[[float], None] = lambda done: None,
    calibrated: Calibrated | None = None,
) -> tuple[Weights, dict[str, Loss]]:
    """Write every weight into `folder`, where calibrated ones are already, a piece at a time; the loss by scheme."""
    losses = dict(calibrated.losses) if calibrated else {}
    recovery = released_grid.Recovery()
    for weight in plan.weights:
        if calibrated and weight.parameter in calibrated.parameters:
            continue
        if weight.source == "packed":
            write_packed(checkpoint, weight, folder)
        elif not weight.inputs:
            np.save(folder / f"{weight.parameter}.values.npy", checkpoint.read(weight.tensor))
        else:
            rounding = recovery if weight.source == "on_grid" else rounding_of(weight, calibrated)
            loss = write_rounded(checkpoint, weight, rounding, folder)
            losses[str(weight.scheme)] = losses.get(str(weight.scheme), Loss()) + loss
        progress(weight.values)
    recovery.check(str(checkpoint.folder))
    schemes = {weight.parameter: (weight.scheme, weight.inputs) for weight in plan.weights}
    order = dict.fromkeys([*calibrated.parameters, *schemes] if calibrated else schemes)
    return Weights(folder, {parameter: schemes[parameter] for parameter in order}), losses


def rounding_of(weight: StoredTensor, calibrated: Calibrated | None) -> Rounding:
    """How the rows of a weight are rounded; those of a calibrated head suit the hidden states that it reads."""
    if calibrated and weight.name == "head":
        return calibrated.head
    return partial(quantize, scheme=weight.scheme, scales=weight.scales)


def write_packed(checkpoint: Checkpoint, weight: StoredTensor, folder: Path) -> None:
    """Write `packed` and `scales` of one matrix as they are released."""
    step = max(1, PIECE_BYTES // weight.scheme.packed_bytes(weight.inputs))
    with integer_files(weight, folder) as (packed, scales):
        for piece in checkpoint.read_packed(weight.tensor, weight.rows, step):
            packed.write(piece.packed)
            scales.write(piece.scales)


def write_rounded(checkpoint: Checkpoint, weight: StoredTensor, rounding: Rounding, folder: Path) -> Loss:
    """Write `packed` and `scales`, or `values`, of one matrix; what rounding cost."""
    pieces, loss = checkpoint.read_rows(weight.tensor, weight.rows, piece_rows(weight.inputs)), Loss()
    if weight.scheme.is_float:
        shape = len(weight.rows), weight.inputs
        with ArrayFile(folder / f"{weight.parameter}.values.npy", shape, np.float32) as values:
            for piece in pieces:
                values.write(piece)
        return loss
    with integer_files(weight, folder) as (packed, scales):
        for piece in pieces:
            quantized, piece_loss = rounding(piece)
            packed.write(quantized.packed)
            scales.write(quantized.scales)
            loss += piece_loss
    return loss


@contextmanager
def integer_files(weight: StoredTensor, folder: Path) -> Iterator[tuple[ArrayFile, ArrayFile]]:
    """Open the files of one matrix's integers and of its scales."""
    rows, scheme = len(weight.rows), weight.scheme
    path, packed_shape = folder / weight.parameter, (rows, scheme.packed_bytes(weight.inputs))
    with (
        ArrayFile(Path(f"{path}.packed.npy"), packed_shape, np.uint8) as packed,
        ArrayFile(Path(f"{path}.scales.npy"), (rows, scheme.groups(weight.inputs)), np.float32) as scales,
    ):
        yield packed, scales


class ArrayFile:
    """A .npy file written in pieces: a full disk is an error here, and a crash in a mapped array."""

    def __init__(self, path: Path, shape: tuple[int, int], dtype: type) -> None:
        self._file = path.open("wb")  # noqa: SIM115  closed by __exit__
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)  # type: ignore[no-untyped-call]

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, piece: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(piece).data)


def weight_bytes(plan: StoragePlan) -> int:
    """Bytes of the integers, scales (two each) and floats of the graph's weights."""
    return sum(map(bytes_of, plan.weights))


def bytes_of(weight: StoredTensor) -> int:
    rows, scheme = len(weight.rows), weight.scheme
    if scheme.is_float:
        return 4 * rows * max(1, weight.inputs)
    return rows * (scheme.packed_bytes(weight.inputs) + 2 * scheme.groups(weight.inputs))
