"""Integers of a Core ML artifact, from the bytes of the saved package alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from coremltools.proto import MIL_pb2 as mil
from numpy.typing import NDArray

from .mil_evaluator import Dense, opened
from .mil_package import Package, refused
from .mil_program import parameter_of

Floats = NDArray[np.float32]
PIECE_ROWS = 8192


def kept_scales(scales: Floats) -> Floats:
    """As Core ML holds scales: float16.  bfloat16 values of at least 2**-14 stay what they are."""
    return scales.astype(np.float16).astype(np.float32)


def stored_weights(model: Path) -> Iterator[tuple[list[str], Iterator[tuple[int, Floats]]]]:
    """For each linear of integers: its parameter, and (first row, values (n, K)) piece by piece.

    `model`: the model.mlmodel.  Raises GemmaError unless all functions refer to the same integers.
    """
    for parameter, dense in stored_integers(model).items():
        yield [parameter], pieces(dense)


def pieces(dense: Dense) -> Iterator[tuple[int, Floats]]:
    for start in range(0, dense.shape[0], PIECE_ROWS):
        yield start, dense.rows(start, start + PIECE_ROWS)


def stored_integers(model: Path) -> dict[str, Dense]:
    """By parameter: what linears of all functions multiply by."""
    package = Package(model)
    found: dict[str, tuple[mil.Value, ...]] = {}
    for name in package.program.functions:
        for operation in package.block(name).operations:
            if operation.type.startswith("constexpr_"):
                parameter = parameter_of(operation.outputs[0].name)
                values = tuple(operation.inputs[key].arguments[0].value for key in sorted(operation.inputs))
                if found.setdefault(parameter, values) != values:
                    raise refused(f"{model}: {parameter}", "is not the same in all functions")
    return {parameter: dense_of(package, parameter, values) for parameter, values in found.items()}


def dense_of(package: Package, parameter: str, values: tuple[mil.Value, ...]) -> Dense:
    """Of `data` and `scale`, or `indices` and `lut`: both are in the order of their names."""
    if len(values) != 2:
        raise refused(parameter, f"is made of {len(values)} tensors")
    return opened(package, *values, parameter)
