"""What XNNPACK computes in one call, built operator by operator, as ExecuTorch's delegate stores it.

Shapes are static.  A value knows nothing of numbers: a part numbers what it reads and makes when it is
written, and what another part made is an input of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema
from executorch.backends.xnnpack.serialization.xnnpack_graph_schema import XNNDatatype

from ..model.arrays import Floats, Shape
from .serialization import Data, xnnpack_bytes

NONE = 0xFFFFFFFF  # a value that there is not
OFFSET_BY_NAME = 0xFFFFFFFFFFFFFFFF  # the offset of a constant that is found by its name
EXTERNAL_INPUT, EXTERNAL_OUTPUT = 1, 2
FLOAT, DYNAMIC = XNNDatatype.xnn_datatype_fp32, XNNDatatype.xnn_datatype_qdint8
STATIC_INT8 = XNNDatatype.xnn_datatype_qint8
INT64 = XNNDatatype.xnn_datatype_invalid  # which XNNPACK does not read


@dataclass(frozen=True)
class Constant:
    """Bytes of the file, found by a name that all parts of all methods share."""

    name: str
    data: Data


@dataclass(frozen=True, eq=False)
class XnnValue:
    """A tensor.  Integers have scales, `block` inputs each; a row each if it is 0; or one `step` for all."""

    shape: Shape
    datatype: XNNDatatype = FLOAT
    constant: Constant | None = None
    scales: Constant | None = None
    block: int = 0
    step: float = 0.0

    @property
    def count(self) -> int:
        """Scales."""
        return self.shape[0] * (self.shape[1] // self.block if self.block else 1)


@dataclass(frozen=True)
class XnnNode:
    """One operator: XNNPACK's record of it, its inputs by their fields there, what it makes, and the rest."""

    kind: Callable[..., Any]
    inputs: Mapping[str, XnnValue]
    output: XnnValue
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """Nodes that run in one call."""

    nodes: list[XnnNode] = field(default_factory=list)

    @property
    def outputs(self) -> list[XnnValue]:
        return [node.output for node in self.nodes]

    @property
    def read(self) -> list[XnnValue]:
        """Values that come from outside, in the order of their first use."""
        used = dict.fromkeys(value for node in self.nodes for value in node.inputs.values())
        outputs = set(self.outputs)
        return [value for value in used if value not in outputs and value.constant is None]

    @property
    def constants(self) -> list[Constant]:
        """Constants of the nodes; matrices have their scales too."""
        used = dict.fromkeys(value for node in self.nodes for value in node.inputs.values() if value.constant)
        return [data for value in used for data in (value.constant, value.scales) if data is not None]

    def written(self, outputs: Sequence[XnnValue]) -> bytes:
        """Serialize as the delegate reads it; `outputs` are those of its values that are wanted outside."""
        return xnnpack_bytes(graph(self, outputs))


@dataclass(frozen=True)
class Put:
    """`new` into the `slots` of a cache, along one of its dimensions, in place: a step between two parts."""

    cache: XnnValue
    dimension: int
    slots: XnnValue
    new: XnnValue


Step = Part | Put


def graph(part: Part, outputs: Sequence[XnnValue]) -> schema.XNNGraph:
    read, wanted = part.read, set(outputs)
    external = {value: number for number, value in enumerate([*read, *outputs])}
    used = (value for node in part.nodes for value in (*node.inputs.values(), node.output))
    numbers = {value: number for number, value in enumerate(dict.fromkeys([*read, *used]))}
    indices = {constant.name: index for index, constant in enumerate(part.constants, 1)}
    values = []
    for value, number in numbers.items():
        flags = EXTERNAL_OUTPUT if value in wanted else EXTERNAL_INPUT if value in external else 0
        values.append(described(value, number, external.get(value, NONE), flags, indices))
    return schema.XNNGraph(
        version="0",
        xnodes=[record(node, numbers) for node in part.nodes],
        xvalues=values,
        num_externs=len(external),
        input_ids=[numbers[value] for value in read],
        output_ids=[numbers[value] for value in outputs],
        constant_data=[schema.ConstantDataOffset(0, 0), *stored(part.constants)],
    )


def stored(constants: Iterable[Constant]) -> list[schema.ConstantDataOffset]:
    return [schema.ConstantDataOffset(OFFSET_BY_NAME, len(constant.data), constant.name) for constant in constants]


def record(node: XnnNode, numbers: Mapping[XnnValue, int]) -> schema.XNode:
    inputs = {name: numbers[value] for name, value in node.inputs.items()}
    operator = node.kind(**inputs, output_id=numbers[node.output], flags=0, **node.settings)
    return schema.XNode(xnode_union=operator, debug_handle=0)


def described(value: XnnValue, number: int, external: int, flags: int, indices: Mapping[str, int]) -> schema.XValue:
    tensor = schema.XNNTensorValue(
        datatype=value.datatype,
        num_dims=len(value.shape),
        dims=list(value.shape),
        constant_buffer_idx=indices[value.constant.name] if value.constant else 0,
        external_id=external,
        flags=flags,
        id_out=number,
    )
    how = quantization(value, indices)
    return schema.XValue(tensor if how is None else schema.XNNQuantizedTensorValue(tensor, how))


def quantization(value: XnnValue, indices: Mapping[str, int]) -> Any:
    if value.datatype == DYNAMIC:
        return schema.PerTokenDynamicQuant(num_nonbatch_dims=1)
    if value.datatype == STATIC_INT8:
        return schema.PerTensorQuant(scale=value.step, zero_point=0)
    if value.scales is None:
        return None
    where = {"scale_buffer_idx": indices[value.scales.name], "num_scales": value.count}
    if value.block:
        return schema.PerChannelGroupQuant(scale=[], channel_dim=0, group_size=value.block, **where)
    return schema.PerChannelQuant(scale=[], channel_dim=0, **where)


class Builder:
    """Collects the nodes of a method, in parts."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._once: dict[tuple[XnnValue, Any], tuple[Part, XnnValue]] = {}
        self._arrays: dict[str, XnnValue] = {}

    def emit(self, kind: Callable[..., Any], inputs: Mapping[str, XnnValue], shape: Shape, **settings: Any) -> XnnValue:
        return self._emit(kind, inputs, XnnValue(shape), settings)

    def _emit(
        self, kind: Callable[..., Any], inputs: Mapping[str, XnnValue], out: XnnValue, settings: Mapping[str, Any]
    ) -> XnnValue:
        self.part.nodes.append(XnnNode(kind, inputs, out, settings))
        return out

    @property
    def part(self) -> Part:
        """The one that grows: a new one after a step of another kind."""
        last = self.steps[-1] if self.steps else None
        if isinstance(last, Part):
            return last
        part = Part()
        self.steps.append(part)
        return part

    # ---- constants ----

    def number(self, value: float) -> XnnValue:
        return self.array(f"number/{value!r}", np.array([value], np.float32))

    def array(self, name: str, values: Floats) -> XnnValue:
        """Equal names are one value."""
        if name not in self._arrays:
            self._arrays[name] = XnnValue(values.shape, constant=Constant(name, values.tobytes()))
        return self._arrays[name]

    # ---- one value to one ----

    def unary(self, kind: Callable[..., Any], x: XnnValue) -> XnnValue:
        return self.emit(kind, {"input_id": x}, x.shape)

    def square(self, x: XnnValue) -> XnnValue:
        return self.unary(schema.XNNSquare, x)

    def rsqrt(self, x: XnnValue) -> XnnValue:
        return self.unary(schema.XNNReciprocalSquareRoot, x)

    def tanh(self, x: XnnValue) -> XnnValue:
        return self.unary(schema.XNNTanh, x)

    def sigmoid(self, x: XnnValue) -> XnnValue:
        return self.unary(schema.XNNSigmoid, x)

    def softmax(self, x: XnnValue) -> XnnValue:
        """Compute softmax over the last dimension."""
        return self.unary(schema.XNNSoftmax, x)

    def rounded(self, x: XnnValue) -> XnnValue:
        """Round to 8 bits, with a scale and zero point for each vector."""
        return self.once(x, DYNAMIC, self._round)

    def _round(self, x: XnnValue) -> XnnValue:
        return self._emit(schema.XNNConvert, {"input_id": x}, XnnValue(x.shape, DYNAMIC), {})

    def fake_quantize(self, x: XnnValue, scale: float) -> XnnValue:
        """Round to the 8-bit multiples of a scale and back to floats: saturated, ties to even."""

        def make(x: XnnValue) -> XnnValue:
            steps = self._emit(schema.XNNConvert, {"input_id": x}, XnnValue(x.shape, STATIC_INT8, step=scale), {})
            return self.unary(schema.XNNConvert, steps)

        return self.once(x, ("steps", scale), make)

    def once(self, x: XnnValue, what: Any, make: Callable[[XnnValue], XnnValue]) -> XnnValue:
        """`what` is made of x, once for all who ask in a part."""
        part, result = self._once.get((x, what), (None, x))
        if part is not self.part:
            result = make(x)
            self._once[x, what] = self.part, result
        return result

    # ---- two values to one ----

    def binary(self, kind: Callable[..., Any], a: XnnValue, b: XnnValue) -> XnnValue:
        return self.emit(kind, {"input1_id": a, "input2_id": b}, tuple(np.broadcast_shapes(a.shape, b.shape)))

    def add(self, a: XnnValue, b: XnnValue) -> XnnValue:
        return self.binary(schema.XNNAdd, a, b)

    def subtract(self, a: XnnValue, b: XnnValue) -> XnnValue:
        return self.binary(schema.XNNSubtract, a, b)

    def multiply(self, a: XnnValue, b: XnnValue) -> XnnValue:
        return self.binary(schema.XNNMultiply, a, b)

    def matmul(self, a: XnnValue, b: XnnValue) -> XnnValue:
        """(B, M, K), (B, K, N) to (B, M, N)."""
        inputs = {"input1_id": a, "input2_id": b}
        return self.emit(schema.XNNBatchMatrixMultiply, inputs, (*a.shape[:-1], b.shape[-1]))

    def fully_connected(self, x: XnnValue, matrix: XnnValue) -> XnnValue:
        """(…, K) and (N, K) to (…, N)."""
        inputs = {"input1_id": x, "filter_id": matrix}
        return self.emit(schema.XNNFullyConnected, inputs, (*x.shape[:-1], matrix.shape[0]), bias_id=NONE)

    def with_ends(self, x: XnnValue, scale: float) -> XnnValue:
        """Add to static steps, (1, S, K), the ends of their range: (1, S, K + 2).

        What rounds them anew by the range that it sees then sees this one, and keeps every step as it is.
        """

        def make(x: XnnValue) -> XnnValue:
            ends = np.tile(np.array([-128, 127], np.float32) * np.float32(scale), (*x.shape[:-1], 1))
            return self.concat(x, self.array(f"ends/{x.shape[1]}/{scale!r}", ends))

        return self.once(x, "ends", make)

    def concat(self, a: XnnValue, b: XnnValue) -> XnnValue:
        """Along the last dimension."""
        unused = {f"input{number}_id": NONE for number in (3, 4, 5)}
        shape = (*a.shape[:-1], a.shape[-1] + b.shape[-1])
        inputs = {"input1_id": a, "input2_id": b}
        return self.emit(schema.XNNConcatenate2, inputs, shape, axis=len(shape) - 1, **unused)

    # ---- the shapes of things ----

    def reshape(self, x: XnnValue, *shape: int) -> XnnValue:
        if x.shape == shape:
            return x
        settings = {"num_dims": len(shape), "new_shape": list(shape)}
        return self.emit(schema.XNNStaticReshape, {"input_id": x}, shape, **settings)

    def transpose(self, x: XnnValue, *order: int) -> XnnValue:
        """Transpose; where nothing but ones change places, that is a reshape."""
        shape = tuple(x.shape[axis] for axis in order)
        if [axis for axis in order if x.shape[axis] > 1] == [axis for axis in sorted(order) if x.shape[axis] > 1]:
            return self.reshape(x, *shape)
        settings = {"num_dims": len(order), "perm": list(order)}
        return self.emit(schema.XNNStaticTranspose, {"input_id": x}, shape, **settings)

    def slice(self, x: XnnValue, start: int, stop: int) -> XnnValue:
        """Cut the last dimension."""
        if (start, stop) == (0, x.shape[-1]):
            return x
        shape = (*x.shape[:-1], stop - start)
        settings = {"num_dims": len(shape), "offsets": [0] * (len(shape) - 1) + [start], "sizes": list(shape)}
        return self.emit(schema.XNNStaticSlice, {"input_id": x}, shape, **settings)
