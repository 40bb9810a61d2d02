"""A saved Core ML program run in numpy, anywhere: what the package says, not what its writer meant.

In `float32` every value is float32.  In `float16` every value is stored as the program declares it, so
that each operator rounds; inside one, sums are float32.  An accelerator may round in between, and flush
what is below 2**-14.  Unknown operators, and results of other shapes than declared, are refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from coremltools.proto import MIL_pb2 as mil

from ..model.arrays import Array, Floats
from .arithmetic import ARITHMETIC, wide
from .movement import MOVEMENT
from .package import Package, refused, typed
from .program import SHORT, MilValue
from .weight import Weight, stored_weight

Precision = Literal["float32", "float16"]
States = dict[str, Array]
PIECE_VALUES = 1 << 22  # values of a weight that are floats at a time
CACHED = 256 << 20  # bytes of floats that are kept for the next call
CAST_DTYPES = {short: dtype for dtype, short in SHORT.items()}
OPERATIONS = ARITHMETIC | MOVEMENT
# Those that need more than their arguments.
OWN = {
    "cast": {"x", "dtype"},
    "linear": {"x", "weight", "bias"},
    "read_state": {"input"},
    "write_state": {"input", "data"},
}
PARAMETERS = {name: set(inspect.signature(body).parameters) for name, body in OPERATIONS.items()} | OWN


@dataclass(frozen=True)
class Operation:
    """One operator: names of the values of each argument, and what it makes."""

    kind: str
    where: str  # to name it in a message
    arguments: dict[str, tuple[str, ...]]
    outputs: tuple[MilValue, ...]


@dataclass(frozen=True)
class Function:
    """A function, read once: its ends, its constants, and its operators in order."""

    ends: tuple[MilValue, ...]
    constants: dict[str, Any]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]


class Program:
    """A program with its weights; `run` calls one of its functions."""

    def __init__(self, package: Package, precision: Precision) -> None:
        self.precision = precision
        self.functions = {name: function_of(package, name) for name in package.program.functions}
        self._kept: dict[tuple[int, int], Floats] = {}
        self._room = CACHED

    @classmethod
    def open(cls, model: Path, precision: Precision) -> Program:
        """Raises GemmaError for what is not a Core ML package of a program that can be evaluated."""
        return cls(Package(model), precision)

    def held(self, dtype: str) -> str:
        """The dtype in which values of a declared one are held."""
        return "float32" if dtype == "float16" and self.precision == "float32" else dtype

    def new_states(self, function: str) -> States:
        """Zeros for every state of a function."""
        ends = self.functions[function].ends
        return {end.name: np.zeros(end.shape, self.held(end.dtype)) for end in ends if end.state}

    def run(self, function: str, feeds: Mapping[str, Array], states: States) -> dict[str, Array]:
        """Call a function: its outputs by name; `states` are replaced by what it leaves.

        Raises GemmaError for a feed that is missing or of another shape, or an operator that can not take its
        values or makes others than the program declares.
        """
        body = self.functions[function]
        values = dict(body.constants)
        for end in body.ends:
            values[end.name] = self._fed(end, feeds, states)
        for operation in body.operations:
            results = self._results(operation, values, states)
            for end, result in zip(operation.outputs, results, strict=True):
                values[end.name] = self._declared(operation, end, result)
        return {name: values[name] for name in body.outputs}

    def _fed(self, end: MilValue, feeds: Mapping[str, Array], states: States) -> Any:
        array = (states if end.state else feeds).get(end.name)
        if array is None or array.shape != end.shape:
            fed = "nothing" if array is None else f"{array.shape}"
            raise refused(end.name, f"is fed {fed}, and the program takes {end.shape}")
        return end.name if end.state else array.astype(end.dtype).astype(self.held(end.dtype), copy=False)

    def _results(self, operation: Operation, values: dict[str, Any], states: States) -> Sequence[Array]:
        kind, where = operation.kind, operation.where
        operands = {key: [values[name] for name in names] for key, names in operation.arguments.items()}
        arguments: dict[str, Any] = {
            key: several if key == "values" else several[0] for key, several in operands.items()
        }
        if kind == "read_state":
            return [states[arguments["input"]]]
        if kind == "write_state":
            return self._write(states, where, **arguments)
        if kind == "cast":
            with np.errstate(over="ignore"):
                return [arguments["x"].astype(self.held(CAST_DTYPES[arguments["dtype"]]))]
        if kind == "linear":
            return [self._linear(**arguments)]
        return computed(kind, where, arguments)

    def _write(self, states: States, where: str, input: str, data: Array) -> Sequence[Array]:
        """Replace a state: what was read from it before stays what it was, as no array is written in place."""
        if states[input].shape != data.shape or states[input].dtype != data.dtype:
            raise refused(where, f"writes {data.dtype} {data.shape} to a state of {states[input].shape}")
        states[input] = data
        return []

    def _declared(self, operation: Operation, end: MilValue, result: Array) -> Array:
        if result.shape != end.shape:
            raise refused(operation.where, f"computes {result.shape}, but declares {end.shape}")
        with np.errstate(over="ignore"):
            return result.astype(self.held(end.dtype), copy=False)

    # ---- weights ----

    def _linear(self, x: Array, weight: Weight | Array, bias: Array) -> Array:
        x = wide(x)
        out = np.empty((*x.shape[:-1], weight.shape[0]), np.float32)
        step = max(1, PIECE_VALUES // weight.shape[1])
        for start in range(0, weight.shape[0], step):
            out[..., start : start + step] = x @ self._rows(weight, start, start + step).T
        return out + wide(bias)

    def _rows(self, weight: Weight | Array, start: int, stop: int) -> Floats:
        """Rows of a weight in float32, rounded as they are declared; kept for the next call while there is room."""
        if not isinstance(weight, Weight):
            return weight[start:stop].astype(np.float32, copy=False)
        key = weight.record, start
        if key in self._kept:
            return self._kept[key]
        rows = weight.rows(start, stop)
        if self.precision == "float16" and not weight.exact_in_half:  # converting takes longer than all else
            rows = rows.astype(np.float16).astype(np.float32)
        if rows.nbytes <= self._room:
            self._room -= rows.nbytes
            self._kept[key] = rows
        return rows


def computed(kind: str, where: str, arguments: dict[str, Any]) -> Sequence[Array]:
    """Raises GemmaError for values that an operator can not take."""
    try:
        results = OPERATIONS[kind](**arguments)
    except (ValueError, IndexError, TypeError) as error:
        raise refused(where, f"cannot be computed: {error}") from error
    return results if isinstance(results, tuple) else [results]


# ---- reading a function ----


def function_of(package: Package, name: str) -> Function:
    """Raises GemmaError for an operator or an argument that is not known, or a value that is not made before it."""
    block, operations = package.block(name), []
    constants: dict[str, Any] = {}
    ends = tuple(value_of(end) for end in package.program.functions[name].inputs)
    known = {end.name for end in ends}
    for operation in block.operations:
        where = f"{operation.type} {operation.outputs[0].name if operation.outputs else ''}".strip()
        if operation.type == "const":
            constants[operation.outputs[0].name] = package.constant(operation.attributes["val"], where)
        elif operation.type.startswith("constexpr_"):
            constants[operation.outputs[0].name] = stored_weight(package, operation, where)
        else:
            operations.append(operation_of(operation, where, known))
        known |= {end.name for end in operation.outputs}
    if not set(block.outputs) <= known:
        raise refused(f"{package.path}: {name}", "has an output that nothing computes")
    return Function(ends, constants, tuple(operations), tuple(block.outputs))


def operation_of(operation: mil.Operation, where: str, known: set[str]) -> Operation:
    if operation.type not in PARAMETERS:
        raise refused(where, "is an operator that the evaluator does not know")
    if set(operation.inputs) != PARAMETERS[operation.type]:
        raise refused(where, f"has arguments {sorted(operation.inputs)}, and not {sorted(PARAMETERS[operation.type])}")
    arguments = {key: tuple(binding.name for binding in value.arguments) for key, value in operation.inputs.items()}
    missing = {name for names in arguments.values() for name in names or ("",)} - known
    if missing:
        raise refused(where, f"reads {sorted(missing)}, which nothing computes before it")
    return Operation(operation.type, where, arguments, tuple(value_of(end) for end in operation.outputs))


def value_of(end: mil.NamedValueType) -> MilValue:
    return MilValue(end.name, *typed(end.type, end.name), end.type.WhichOneof("type") == "stateType")
