"""Integers of a Core ML artifact, and the ranges around them, from the bytes of the saved package alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from coremltools.proto import MIL_pb2 as mil

from ..model.arrays import PIECE_ROWS, Floats
from ..model.config import ActivationScales, GemmaConfig
from .package import Package, refused
from .program import parameter_of
from .weight import NAMES, Weight, stored_weight

HALF_DIGIT = 2**-10  # what float16 may take from a scale


def scales_as_stored(scales: Floats) -> Floats:
    """Round scales to float16, as Core ML holds them; bfloat16 values of at least 2**-14 stay what they are."""
    return scales.astype(np.float16).astype(np.float32)


def stored_weights(model: Path) -> Iterator[tuple[list[str], Iterator[tuple[int, Floats]]]]:
    """Read each linear of integers: its parameter, and (first row, values (n, K)) piece by piece.

    `model`: the model.mlmodel.  Raises GemmaError unless all functions refer to the same integers.
    """
    for parameter, weight in stored_integers(model).items():
        yield [parameter], pieces(weight)


def pieces(weight: Weight) -> Iterator[tuple[int, Floats]]:
    for start in range(0, weight.shape[0], PIECE_ROWS):
        yield start, weight.rows(start, start + PIECE_ROWS)


def stored_integers(model: Path) -> dict[str, Weight]:
    """Read what the linears of all functions multiply by, by parameter."""
    package = Package(model)
    makers: dict[str, mil.Operation] = {}
    for name in sorted(package.program.functions):
        for operation in package.block(name).operations:
            if operation.type in NAMES:
                parameter = parameter_of(operation.outputs[0].name)
                if operands_of(makers.setdefault(parameter, operation)) != operands_of(operation):
                    raise refused(f"{model}: {parameter}", "differs between functions")
    weights = {parameter: stored_weight(package, operation, parameter) for parameter, operation in makers.items()}
    for parameter, weight in weights.items():
        check_tables(weight, f"{model}: {parameter}")
    return weights


def operands_of(operation: mil.Operation) -> dict[str, bytes]:
    """What an operator refers to, to compare."""
    return {key: value.SerializeToString() for key, value in operation.inputs.items()}


def check_tables(weight: Weight, where: str) -> None:
    """Raises GemmaError unless tables are four multiples of a scale: a value that no integer picks counts too."""
    if weight.dtype == "uint2":
        tables = weight.factors
        if not np.array_equal(tables, tables[..., 3:] * np.arange(-2, 2, dtype=np.float32)):
            raise refused(where, "has a table whose values are not four multiples of one scale")


def stored_ranges(model: Path, config: GemmaConfig) -> Iterator[tuple[str, ActivationScales]]:
    """Read the static scales that each linear of each function is rounded with, before and behind, by its label."""
    package = Package(model)
    for name in sorted(package.program.functions):
        neighbours = MilNeighbours(package, name)
        for operation in neighbours.operations:
            if operation.type == "linear":
                label = parameter_of(neighbours.bound(operation, "weight")).removesuffix(".weight")
                yield label, ActivationScales(neighbours.before(operation), neighbours.behind(operation))


class MilNeighbours:
    """Which operation of a function makes a value, and which read it."""

    def __init__(self, package: Package, function: str) -> None:
        self.package, self.operations = package, list(package.block(function).operations)
        self.makers = {value.name: operation for operation in self.operations for value in operation.outputs}
        self.readers: dict[str, list[mil.Operation]] = {}
        for operation in self.operations:
            for argument in operation.inputs.values():
                for binding in argument.arguments:
                    self.readers.setdefault(binding.name, []).append(operation)

    @staticmethod
    def bound(operation: mil.Operation, argument: str) -> str:
        return str(operation.inputs[argument].arguments[0].name)

    def before(self, linear: mil.Operation) -> float:
        """Give the scale of the whole numbers that it multiplies, if what it gives is multiplied by it again."""
        steps = self.maker(self.bound(linear, "x"), "cast")
        scale = self.rounded_with(steps)
        factor = self.factor_behind(linear)
        whole = factor is not None and scale and np.abs(factor / np.float32(scale) - 1).max() <= HALF_DIGIT
        return scale if whole else 0.0

    def behind(self, linear: mil.Operation) -> float:
        product = self.reader(self.reader(linear, "cast") or linear, "mul")
        divided = self.reader(product or linear, "real_div")
        steps = self.reader(self.reader(divided, "round"), "clip")
        return self.rounded_with(steps)

    def rounded_with(self, clip: mil.Operation | None) -> float:
        """The scale of whole numbers, saturated to 8 bits; 0 for others."""
        if clip is None or clip.type != "clip":
            return 0.0
        ends = [self.number(clip, name) for name in ("alpha", "beta")]
        rounded = self.makers.get(self.bound(clip, "x"))
        divided = self.makers.get(self.bound(rounded, "x")) if rounded is not None and rounded.type == "round" else None
        if ends != [-128.0, 127.0] or divided is None or divided.type != "real_div":
            return 0.0
        return self.number(divided, "y")

    def factor_behind(self, linear: mil.Operation) -> Floats | None:
        product = self.reader(self.reader(linear, "cast") or linear, "mul")
        return None if product is None else self.values(product, "y")

    def maker(self, name: str, through: str) -> mil.Operation | None:
        """Find what makes a value, looking through an operation of a kind."""
        maker = self.makers.get(name)
        return self.makers.get(self.bound(maker, "x")) if maker is not None and maker.type == through else maker

    def reader(self, operation: mil.Operation | None, kind: str) -> mil.Operation | None:
        """Find the only reader of a kind of what an operation makes."""
        if operation is None:
            return None
        readers = [reader for reader in self.readers.get(operation.outputs[0].name, []) if reader.type == kind]
        return readers[0] if len(readers) == 1 else None

    def number(self, operation: mil.Operation, argument: str) -> float:
        values = self.values(operation, argument)
        return 0.0 if values is None or values.size != 1 else float(values.ravel()[0])

    def values(self, operation: mil.Operation, argument: str) -> Floats | None:
        """Give the values of a constant; None for another value."""
        maker = self.makers.get(self.bound(operation, argument))
        if maker is None or maker.type != "const":
            return None
        constant = self.package.constant(maker.attributes["val"], argument)
        return None if isinstance(constant, str) else np.asarray(constant, np.float32)
