"""Integers of an ONNX artifact back to floats, and the ranges around them, from the bytes of the saved files alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from ..model.arrays import PIECE_ROWS, Bytes, Floats
from ..model.config import ActivationScales, GemmaConfig

FROM_ROW = "@"  # between the name of a table and the first row of a part of it


def stored_weights(path: Path) -> Iterator[tuple[list[str], Iterator[tuple[int, Floats]]]]:
    """Read each MatMulNBits: its parameters, and (first row, values (n, K)) piece by piece."""
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


def dequantized(packed: Bytes, scales: Floats, bits: int, inputs: int, first: int) -> Iterator[tuple[int, Floats]]:
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


def stored_ranges(path: Path, config: GemmaConfig) -> Iterator[tuple[str, ActivationScales]]:
    """Read the static scales that each linear is rounded with, before and behind, by its label."""
    graph = onnx.load(path, load_external_data=False).graph
    neighbours = OnnxNeighbours(graph)
    for node in graph.node:
        if node.op_type in ("MatMulNBits", "FusedMatMul"):
            names = node.input[1].removesuffix(".packed").partition(FROM_ROW)[0].split("+")
            labels = [name.removesuffix(".weight") for name in names]
            before = neighbours.scale_of(neighbours.makers.get(node.input[0]))
            behind = neighbours.scales_behind(node.output[0], [heads_of(label, config) for label in labels])
            for label, scale in zip(labels, behind, strict=True):
                yield label, ActivationScales(before, scale)


def heads_of(label: str, config: GemmaConfig) -> int:
    """Heads of what a linear gives; 1 for what has none."""
    _, _, linear = label.rpartition(".")
    if linear not in ("q_proj", "k_proj", "v_proj"):
        return 1
    layer = config.layers[int(label.split(".")[1])]
    return layer.heads if linear == "q_proj" else layer.kv_heads


class OnnxNeighbours:
    """Which node makes a value, and which read it."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.makers = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def scale_of(self, dequantize: onnx.NodeProto | None) -> float:
        """Read the scale of a pair that rounds to int8 with one scale, by its second node; 0 for what is none."""
        scales = self.scales_of(dequantize)
        return float(scales[0]) if scales.size == 1 else 0.0

    def scales_of(self, dequantize: onnx.NodeProto | None) -> Floats:
        none = np.zeros(0, np.float32)
        if dequantize is None or dequantize.op_type != "DequantizeLinear":
            return none
        quantize = self.makers.get(dequantize.input[0])
        if quantize is None or quantize.op_type != "QuantizeLinear" or quantize.input[1:] != dequantize.input[1:]:
            return none
        scale, zero = (numpy_helper.to_array(self.tensors[name]) for name in quantize.input[1:])
        return none if zero.dtype != np.int8 or zero.any() else np.asarray(scale, np.float32).reshape(-1)

    def scales_behind(self, name: str, heads: list[int]) -> list[float]:
        """Read the scale of each of the values that lie side by side in one, of some heads each."""
        readers = self.readers.get(name, [])
        if len(readers) != 1:
            return [0.0] * len(heads)
        node = readers[0]
        if node.op_type == "Reshape":
            return self.scales_behind(node.output[0], heads)
        if node.op_type == "Split" and len(node.output) == len(heads):
            return [self.scales_behind(part, [count])[0] for part, count in zip(node.output, heads, strict=True)]
        if node.op_type != "QuantizeLinear" or len(self.readers.get(node.output[0], [])) != 1:
            return [0.0] * len(heads)
        scales = self.scales_of(self.readers[node.output[0]][0])
        if scales.size == 1:
            return [float(scales[0])] * len(heads)
        pieces = np.split(scales, np.cumsum(heads)[:-1]) if scales.size == sum(heads) else []
        if any((piece != piece[0]).any() for piece in pieces) or not pieces:
            return [0.0] * len(heads)
        return [float(piece[0]) for piece in pieces]
