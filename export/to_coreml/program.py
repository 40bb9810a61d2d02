"""A function of a Core ML program (MIL), built operator by operator, with the type of every value.

Shapes are static and written where an operator is emitted; nothing is inferred.  What coremltools
writes is the model: constants are operators of their own, every optional argument is given, and a
large constant is a reference into the weight file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from coremltools.proto import MIL_pb2 as mil

from ..model.arrays import Array, Shape

VALUES = "_values"  # ends the name of a weight
OPSET = "CoreML8"  # iOS 18, macOS 15
WEIGHTS = "@model_path/weights/weight.bin"
TYPES = {
    "float16": mil.FLOAT16,
    "float32": mil.FLOAT32,
    "int32": mil.INT32,
    "int8": mil.INT8,
    "int4": mil.INT4,
    "uint2": mil.UINT2,
    "bool": mil.BOOL,
    "string": mil.STRING,
}
DTYPES = {code: name for name, code in TYPES.items()}
SHORT = {"float16": "fp16", "float32": "fp32", "int32": "int32"}  # as `cast` names them

Immediate = Array | np.generic | str


@dataclass(frozen=True)
class MilValue:
    """A named tensor of a program; `state` is one that lives between calls."""

    name: str
    dtype: str
    shape: Shape
    state: bool = False

    def type(self) -> mil.ValueType:
        tensor = tensor_type(self.dtype, self.shape)
        return mil.ValueType(stateType=mil.StateType(wrappedType=tensor)) if self.state else tensor


@dataclass(frozen=True)
class BlobTensor:
    """A tensor of the weight file: the offset of its record, and its type."""

    record: int
    dtype: str
    shape: Shape

    def value(self) -> mil.Value:
        where = mil.Value.BlobFileValue(fileName=WEIGHTS, offset=self.record)
        return mil.Value(type=tensor_type(self.dtype, self.shape), blobFileValue=where)


def tensor_type(dtype: str, shape: Shape) -> mil.ValueType:
    dimensions = [mil.Dimension(constant=mil.Dimension.ConstantDimension(size=size)) for size in shape]
    return mil.ValueType(tensorType=mil.TensorType(dataType=TYPES[dtype], rank=len(shape), dimensions=dimensions))


def immediate(value: Immediate) -> mil.Value:
    """A small constant inside the program: float32, int32, bool or a word."""
    if isinstance(value, str):
        words = mil.TensorValue(strings=mil.TensorValue.RepeatedStrings(values=[value]))
        return mil.Value(type=tensor_type("string", ()), immediateValue=mil.Value.ImmediateValue(tensor=words))
    array = np.asarray(value)
    listed = array.ravel().tolist()
    tensor = {
        "float32": lambda: mil.TensorValue(floats=mil.TensorValue.RepeatedFloats(values=listed)),
        "int32": lambda: mil.TensorValue(ints=mil.TensorValue.RepeatedInts(values=listed)),
        "bool": lambda: mil.TensorValue(bools=mil.TensorValue.RepeatedBools(values=listed)),
    }[array.dtype.name]()
    kind = tensor_type(array.dtype.name, array.shape)
    return mil.Value(type=kind, immediateValue=mil.Value.ImmediateValue(tensor=tensor))


def named_argument(*values: MilValue) -> mil.Argument:
    return mil.Argument(arguments=[mil.Argument.Binding(name=value.name) for value in values])


def stored_argument(stored: BlobTensor) -> mil.Argument:
    return mil.Argument(arguments=[mil.Argument.Binding(value=stored.value())])


Argument = MilValue | BlobTensor | Sequence[MilValue]


class FunctionBuilder:
    """Collects the operators of one function."""

    def __init__(self) -> None:
        self.inputs: list[MilValue] = []
        self.states: list[MilValue] = []
        self.operations: list[mil.Operation] = []
        self._constants: dict[Any, MilValue] = {}
        self._names: dict[str, int] = {}
        self._casts: dict[tuple[str, str], MilValue] = {}

    # ---- the ends ----

    def input(self, name: str, dtype: str, shape: Shape) -> MilValue:
        self.inputs.append(MilValue(identifier(name), dtype, shape))
        return self.inputs[-1]

    def state(self, name: str, shape: Shape) -> MilValue:
        """Zeros before the first call.  Core ML has float16 states only."""
        self.states.append(MilValue(identifier(name), "float16", shape, state=True))
        return self.states[-1]

    def function(self, outputs: Sequence[MilValue]) -> mil.Function:
        ends = [mil.NamedValueType(name=value.name, type=value.type()) for value in (*self.inputs, *self.states)]
        block = mil.Block(outputs=[value.name for value in outputs], operations=self.operations)
        return mil.Function(inputs=ends, opset=OPSET, block_specializations={OPSET: block})

    # ---- operators ----

    def emit(self, kind: str, arguments: Mapping[str, Argument], dtype: str, shape: Shape, name: str = "") -> MilValue:
        """One operator with one result."""
        return self.emit_many(kind, arguments, dtype, [shape], name)[0]

    def emit_many(
        self, kind: str, arguments: Mapping[str, Argument], dtype: str, shapes: Sequence[Shape], name: str = ""
    ) -> list[MilValue]:
        base = self.unique(name or kind)
        names = [base] if len(shapes) == 1 else [f"{base}_{index}" for index in range(len(shapes))]
        results = [MilValue(result, dtype, shape) for result, shape in zip(names, shapes, strict=True)]
        self._add(kind, base, {key: bound(value) for key, value in arguments.items()}, results)
        return results

    def write_state(self, state: MilValue, data: MilValue) -> None:
        self._add("write_state", self.unique("write_state"), {"input": bound(state), "data": bound(data)}, [])

    def read_state(self, state: MilValue) -> MilValue:
        return self.emit("read_state", {"input": state}, state.dtype, state.shape)

    def _add(self, kind: str, name: str, inputs: dict[str, mil.Argument], outputs: Sequence[MilValue]) -> None:
        ends = [mil.NamedValueType(name=value.name, type=value.type()) for value in outputs]
        self.operations.append(
            mil.Operation(type=kind, inputs=inputs, outputs=ends, attributes={"name": immediate(name)})
        )

    def output(self, x: MilValue, name: str) -> MilValue:
        """Give `x` the name that a host asks for."""
        value = MilValue(name, x.dtype, x.shape)
        self._add("identity", name, {"x": bound(x)}, [value])
        return value

    # ---- constants ----

    def constant(self, value: Immediate) -> MilValue:
        """A small constant; equal ones are one."""
        array = value if isinstance(value, str) else np.asarray(value)
        key: Any = array if isinstance(array, str) else (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            kind: tuple[str, Shape] = ("string", ()) if isinstance(array, str) else (array.dtype.name, array.shape)
            self._constants[key] = MilValue(self.unique("const"), *kind)
            self._constant(self._constants[key], immediate(array))
        return self._constants[key]

    def stored(self, stored: BlobTensor, name: str) -> MilValue:
        """A large constant, in the weight file."""
        if stored not in self._constants:
            value = MilValue(self.unique(name), stored.dtype, stored.shape)
            self._constant(value, stored.value())
            self._constants[stored] = value
        return self._constants[stored]

    def _constant(self, constant: MilValue, value: mil.Value) -> None:
        ends = [mil.NamedValueType(name=constant.name, type=constant.type())]
        attributes = {"name": immediate(constant.name), "val": value}
        self.operations.append(mil.Operation(type="const", outputs=ends, attributes=attributes))

    def integers(self, *values: int) -> MilValue:
        return self.constant(np.array(values, np.int32))

    def number(self, value: float) -> MilValue:
        return self.constant(np.float32(value))

    def unique(self, name: str) -> str:
        name = identifier(name)
        self._names[name] = count = self._names.get(name, 0) + 1
        return f"{name}_{count - 1}"

    # ---- the shapes of things ----

    def cast(self, x: MilValue, dtype: str) -> MilValue:
        """`x` as `dtype`; itself if it is so already, and one operator however often it is asked for."""
        if x.dtype == dtype:
            return x
        if (x.name, dtype) not in self._casts:
            arguments = {"x": x, "dtype": self.constant(SHORT[dtype])}
            self._casts[x.name, dtype] = self.emit("cast", arguments, dtype, x.shape)
        return self._casts[x.name, dtype]

    def both(self, kind: str, x: MilValue, y: MilValue) -> MilValue:
        """An elementwise operator on two values of one type, broadcast."""
        return self.emit(kind, {"x": x, "y": y}, x.dtype, np.broadcast_shapes(x.shape, y.shape))

    def reshape(self, x: MilValue, shape: Shape) -> MilValue:
        if x.shape == shape:
            return x
        return self.emit("reshape", {"x": x, "shape": self.integers(*shape)}, x.dtype, shape)

    def transpose(self, x: MilValue, *order: int) -> MilValue:
        shape = tuple(x.shape[axis] for axis in order)
        return self.emit("transpose", {"x": x, "perm": self.integers(*order)}, x.dtype, shape)

    def concat(self, values: Sequence[MilValue], axis: int) -> MilValue:
        shape = list(values[0].shape)
        shape[axis] = sum(value.shape[axis] for value in values)
        arguments: dict[str, Argument] = {
            "values": values,
            "axis": self.constant(np.int32(axis)),
            "interleave": self.constant(np.bool_(False)),
        }
        return self.emit("concat", arguments, values[0].dtype, tuple(shape))

    def split(self, x: MilValue, sizes: Sequence[int], axis: int) -> list[MilValue]:
        axis %= len(x.shape)
        shapes = [(*x.shape[:axis], size, *x.shape[axis + 1 :]) for size in sizes]
        arguments = {"x": x, "split_sizes": self.integers(*sizes), "axis": self.constant(np.int32(axis))}
        return self.emit_many("split", arguments, x.dtype, shapes)

    def slice(self, x: MilValue, begin: Sequence[int], end: Sequence[int]) -> MilValue:
        shape = tuple(stop - start for start, stop in zip(begin, end, strict=True))
        arguments = {"x": x, "begin": self.integers(*begin), "end": self.integers(*end)}
        return self.emit("slice_by_index", arguments, x.dtype, shape)

    def gather(self, x: MilValue, indices: MilValue, axis: int) -> MilValue:
        """Choose those of `indices` (m,) from (.., n at `axis`, ..)."""
        shape = (*x.shape[:axis], indices.shape[0], *x.shape[axis + 1 :])
        arguments = {
            "x": x,
            "indices": indices,
            "axis": self.constant(np.int32(axis)),
            "batch_dims": self.constant(np.int32(0)),
            "validate_indices": self.constant(np.bool_(False)),
        }
        return self.emit("gather", arguments, x.dtype, shape)


def bound(argument: Argument) -> mil.Argument:
    if isinstance(argument, BlobTensor):
        return stored_argument(argument)
    return named_argument(argument) if isinstance(argument, MilValue) else named_argument(*argument)


def identifier(name: str) -> str:
    """MIL names are letters, digits and `_`: a dot is two of these."""
    return name.replace(".", "__")


def parameter_of(identifier: str) -> str:
    """The parameter that a weight was named after."""
    return identifier.removesuffix("_0").removesuffix(VALUES).replace("__", ".")
