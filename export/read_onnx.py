"""Integers of an ONNX artifact back to floats, from the bytes of the saved files alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

Floats = NDArray[np.float32]
PIECE_ROWS = 8192
FROM_ROW = "@"  # between the name of a table and the first row of a part of it


def kept_scales(scales: Floats) -> Floats:
    """As the artifact holds scales: as they were decided."""
    return scales


def stored_weights(path: Path) -> Iterator[tuple[list[str], Iterator[tuple[int, Floats]]]]:
    """For each MatMulNBits: its parameters, and (first row, values (n, K)) piece by piece."""
    model = onnx.load(path, load_external_data=False)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "MatMulNBits":
            continue
        size = {a.name: a.i for a in node.attribute}
        packed = mapped(path, tensors[node.input[1]], np.uint8)  # (N, blocks, bytes)
        scales = mapped(path, tensors[node.input[2]], np.float32)  # (N, blocks)
        names, _, first = node.input[1].removesuffix(".packed").partition(FROM_ROW)
        yield names.split("+"), dequantized(packed, scales, size["bits"], size["K"], int(first or 0))


def dequantized(
    packed: NDArray[np.uint8], scales: Floats, bits: int, inputs: int, first: int
) -> Iterator[tuple[int, Floats]]:
    """MatMulNBits' own rule: unsigned, low bits first, an implicit zero point of half the range.

    `first` is the number of the first row.
    """
    for start in range(0, len(packed), PIECE_ROWS):
        blocks = packed[start : start + PIECE_ROWS]
        if bits < 8:
            fields = [(blocks >> np.uint8(place)) & np.uint8((1 << bits) - 1) for place in range(0, 8, bits)]
            blocks = np.stack(fields, -1).reshape(*blocks.shape[:2], -1)
        values = (blocks.astype(np.float32) - (1 << (bits - 1))) * scales[start : start + PIECE_ROWS, :, None]
        yield first + start, values.reshape(len(values), -1)[:, :inputs]


def mapped(path: Path, tensor: onnx.TensorProto, dtype: type) -> np.memmap:
    """An external tensor."""
    where = {entry.key: entry.value for entry in tensor.external_data}
    return np.memmap(path.parent / where["location"], dtype, "r", int(where["offset"]), tuple(tensor.dims))
