"""A saved Core ML program run in numpy, anywhere: what the package says, not what its writer meant.

In `float32` every value is float32.  In `float16` every value is stored as the program declares it, so
that each operator rounds; inside one, sums are float32.  An accelerator may round in between, and flush
what is below 2**-14.  Unknown operators, and results of other shapes than declared, are refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from coremltools.proto import MIL_pb2 as mil
from numpy.typing import NDArray

from .mil_arithmetic import ARITHMETIC, wide
from .mil_movement import MOVEMENT
from .mil_package import Package, refused, typed
from .mil_program import SHORT, Shape

Precision = Literal["float32", "float16"]
Array = NDArray[Any]
States = dict[str, Array]
PIECE = 1 << 22  # values of a weight that are floats at a time
CACHED = 256 << 20  # bytes of floats that are kept for the next call
DTYPES = {short: dtype for dtype, short in SHORT.items()}
NIBBLES = np.array([[(byte & 15 ^ 8) - 8, (byte >> 4 ^ 8) - 8] for byte in range(256)], np.float32)
QUARTERS = np.array([[byte >> place & 3 for place in (0, 2, 4, 6)] for byte in range(256)], np.uint8)

OPERATIONS = ARITHMETIC | MOVEMENT
PARAMETERS = {name: set(inspect.signature(body).parameters) for name, body in OPERATIONS.items()}


@dataclass(frozen=True)
class Dense:
    """A weight (rows, inputs) that is made of integers, some rows at a time.

    raw: packed bytes (rows, bytes); `factors`: scales (rows, groups), or tables (rows, groups, 4)
    """

    dtype: str
    shape: Shape
    raw: NDArray[np.uint8]
    factors: NDArray[np.float32]

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        raw, factors = self.raw[start:stop], self.factors[start:stop]
        count, groups = len(raw), factors.shape[1]
        if self.dtype == "uint2":
            codes = QUARTERS[raw].reshape(count, groups, -1)
            return np.take_along_axis(factors, codes.astype(np.int64), 2).reshape(count, -1)
        values = NIBBLES[raw] if self.dtype == "int4" else raw.view(np.int8).astype(np.float32)
        return (values.reshape(count, groups, -1) * factors[:, :, None]).reshape(count, -1)


@dataclass
class Program:
    """A program with its weights; `run` calls one of its functions."""

    package: Package
    precision: Precision = "float32"
    cached: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    dense: dict[int, Dense] = field(default_factory=dict)

    @classmethod
    def open(cls, model: Path, precision: Precision) -> Program:
        """Raises GemmaError for what is not a Core ML package of a program."""
        return cls(Package(model), precision)

    def kept_as(self, dtype: str) -> type[Any]:
        """How values of a declared type are held."""
        held = "float32" if dtype == "float16" and self.precision == "float32" else dtype
        return {"uint2": np.uint8, "int4": np.int8}.get(held) or np.dtype(held).type

    def new_states(self, function: str) -> States:
        """Zeros for every state of a function."""
        found = {}
        for end in self.package.program.functions[function].inputs:
            if end.type.WhichOneof("type") == "stateType":
                dtype, shape = typed(end.type, end.name)
                found[end.name] = np.zeros(shape, self.kept_as(dtype))
        return found

    def run(self, function: str, feeds: Mapping[str, Array], states: States) -> dict[str, Array]:
        """Call a function: its outputs by name; `states` are replaced by what it leaves.

        Raises GemmaError for a feed that is missing or of another shape, an operator that is not known, or one
        whose result is not what the program declares.
        """
        block = self.package.block(function)
        values: dict[str, Any] = {}
        for end in self.package.program.functions[function].inputs:
            values[end.name] = self._fed(end, feeds, states)
        for operation in block.operations:
            for end, result in zip(operation.outputs, self._results(operation, values, states), strict=True):
                values[end.name] = self._declared(operation, end, result)
        return {name: values[name] for name in block.outputs}

    def _fed(self, end: mil.NamedValueType, feeds: Mapping[str, Array], states: States) -> Any:
        dtype, shape = typed(end.type, end.name)
        is_state = end.type.WhichOneof("type") == "stateType"
        found = (states if is_state else feeds).get(end.name)
        if found is None or found.shape != shape:
            given = "nothing" if found is None else str(found.shape)
            raise refused(f"{end.name}: {given} is fed, and the program", f"takes {shape}")
        return end.name if is_state else found.astype(dtype).astype(self.kept_as(dtype))

    def _results(self, operation: mil.Operation, values: dict[str, Any], states: States) -> Any:
        kind, where = operation.type, label(operation)
        if kind == "const":
            return [self.package.constant(operation.attributes["val"], where)]
        if kind.startswith("constexpr_"):
            return [self._dense(operation)]
        arguments = {key: self._argument(one, values, where) for key, one in operation.inputs.items()}
        if kind == "read_state":
            return [states[arguments["input"]].copy()]
        if kind == "write_state":
            self._write(states, where, **arguments)
            return []
        if kind == "cast":
            return [arguments["x"].astype(self.kept_as(DTYPES[arguments["dtype"]]))]
        if kind == "linear":
            return [self._linear(**arguments)]
        return computed(kind, where, arguments)

    def _argument(self, argument: mil.Argument, values: dict[str, Any], where: str) -> Any:
        found = []
        for one in argument.arguments:
            if one.WhichOneof("binding") != "name" or one.name not in values:
                raise refused(where, f"reads {one.name or 'a value'}, which is not made before it")
            found.append(values[one.name])
        return found if len(found) > 1 else found[0]

    def _write(self, states: States, where: str, input: str, data: Array) -> None:
        if states[input].shape != data.shape or states[input].dtype != data.dtype:
            raise refused(where, f"writes {data.dtype} {data.shape} to a state {states[input].shape}")
        states[input] = data

    def _declared(self, operation: mil.Operation, end: mil.NamedValueType, result: Any) -> Any:
        dtype, shape = typed(end.type, end.name)
        if isinstance(result, str):
            return result
        if result.shape != shape:
            raise refused(label(operation), f"makes {result.shape}, and declares {shape}")
        if isinstance(result, Dense):
            return result
        with np.errstate(over="ignore"):
            return result.astype(self.kept_as(dtype), copy=False)

    # ---- weights ----

    def _dense(self, operation: mil.Operation) -> Dense:
        """The integers and scales, or tables, of a weight."""
        where = label(operation)
        lut = operation.type == "constexpr_lut_to_dense"
        names = ("indices", "lut") if lut else ("data", "scale")
        if set(operation.inputs) != set(names):
            raise refused(where, f"has arguments {sorted(operation.inputs)}")
        data, factors = (operation.inputs[name].arguments[0].value for name in names)
        key = data.blobFileValue.offset
        if key not in self.dense:
            self.dense[key] = opened(self.package, data, factors, where)
        return self.dense[key]

    def _linear(self, x: Array, weight: Dense | Array, bias: Array) -> Array:
        x = wide(x)
        out = np.empty((*x.shape[:-1], weight.shape[0]), np.float32)
        step = max(1, PIECE // weight.shape[1])
        for start in range(0, weight.shape[0], step):
            piece = self._rows(weight, start, start + step)
            out[..., start : start + step] = x @ piece.T
        return out + wide(bias)

    def _rows(self, weight: Dense | Array, start: int, stop: int) -> NDArray[np.float32]:
        """Rows of a weight in float32, rounded as they are declared; kept for the next call while there is room."""
        if not isinstance(weight, Dense):
            return weight[start:stop].astype(np.float32, copy=False)
        key = weight.raw.ctypes.data + start * weight.raw.strides[0]
        if key in self.cached:
            return self.cached[key]
        rows = weight.rows(start, stop)
        if self.precision == "float16":
            rows = rows.astype(np.float16).astype(np.float32)
        if sum(one.nbytes for one in self.cached.values()) + rows.nbytes <= CACHED:
            self.cached[key] = rows
        return rows


def opened(package: Package, data: mil.Value, factors: mil.Value, where: str) -> Dense:
    """Raises GemmaError unless integers (rows, inputs) and scales (rows, groups) fit each other."""
    raw, dtype, shape = package.raw(data, where)
    found = package.constant(factors, where)
    assert not isinstance(found, str)
    if dtype == "uint2":
        fits = found.ndim == 4 and found.shape[2:] == (4, 1)
        found = found[..., 0]
    else:
        fits = dtype in ("int4", "int8") and found.ndim == 2
    if not fits or len(shape) != 2 or found.shape[0] != shape[0] or shape[1] % max(1, found.shape[1]):
        raise refused(where, f"has {dtype} {shape} and scales {found.shape}")
    return Dense(dtype, shape, raw.reshape(shape[0], -1), found.astype(np.float32))


def computed(kind: str, where: str, arguments: dict[str, Any]) -> list[Any]:
    """Raises GemmaError for an operator or an argument that is not known, or values it can not take."""
    if kind not in OPERATIONS:
        raise refused(where, "is an operator that is not evaluated")
    if set(arguments) != PARAMETERS[kind]:
        raise refused(where, f"has arguments {sorted(arguments)}, and not {sorted(PARAMETERS[kind])}")
    try:
        found = OPERATIONS[kind](**arguments)
    except (ValueError, IndexError, TypeError) as error:
        raise refused(where, f"can not be computed: {error}") from error
    return list(found) if isinstance(found, tuple) else [found]


def label(operation: mil.Operation) -> str:
    """What to call an operator in a message."""
    name = operation.outputs[0].name if operation.outputs else ""
    return f"{operation.type} {name}".strip()
