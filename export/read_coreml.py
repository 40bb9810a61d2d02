"""Integers of a Core ML artifact, from the bytes of the saved package alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from coremltools.proto import MIL_pb2 as mil
from numpy.typing import NDArray

from .mil_package import Package, refused
from .mil_program import parameter_of
from .mil_weight import NAMES, Weight, stored_weight

Floats = NDArray[np.float32]
PIECE_ROWS = 8192


def kept_scales(scales: Floats) -> Floats:
    """As Core ML holds scales: float16.  bfloat16 values of at least 2**-14 stay what they are."""
    return scales.astype(np.float16).astype(np.float32)


def stored_weights(model: Path) -> Iterator[tuple[list[str], Iterator[tuple[int, Floats]]]]:
    """For each linear of integers: its parameter, and (first row, values (n, K)) piece by piece.

    `model`: the model.mlmodel.  Raises GemmaError unless all functions refer to the same integers.
    """
    for parameter, weight in stored_integers(model).items():
        yield [parameter], pieces(weight)


def pieces(weight: Weight) -> Iterator[tuple[int, Floats]]:
    for start in range(0, weight.shape[0], PIECE_ROWS):
        yield start, weight.rows(start, start + PIECE_ROWS)


def stored_integers(model: Path) -> dict[str, Weight]:
    """By parameter: what the linears of all functions multiply by."""
    package = Package(model)
    found: dict[str, mil.Operation] = {}
    for name in sorted(package.program.functions):
        for operation in package.block(name).operations:
            if operation.type in NAMES:
                parameter = parameter_of(operation.outputs[0].name)
                if asked(found.setdefault(parameter, operation)) != asked(operation):
                    raise refused(f"{model}: {parameter}", "is not the same in all functions")
    weights = {parameter: stored_weight(package, operation, parameter) for parameter, operation in found.items()}
    for parameter, weight in weights.items():
        check_tables(weight, f"{model}: {parameter}")
    return weights


def asked(operation: mil.Operation) -> dict[str, bytes]:
    """What an operator refers to, to compare."""
    return {key: value.SerializeToString() for key, value in operation.inputs.items()}


def check_tables(weight: Weight, where: str) -> None:
    """Raises GemmaError unless tables are four multiples of a scale: a value that no integer picks counts too."""
    if weight.dtype == "uint2":
        tables = weight.factors
        if not np.array_equal(tables, tables[..., 3:] * np.arange(-2, 2, dtype=np.float32)):
            raise refused(where, "has a table that is not of a scale")
