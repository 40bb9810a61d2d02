"""A saved Core ML package: its program, and the tensors that it refers to, read with bounds."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from coremltools.proto import MIL_pb2 as mil
from coremltools.proto import Model_pb2
from google.protobuf.message import DecodeError

from runtime.errors import GemmaError

from ..model.arrays import Array, Bytes, Shape
from .program import DTYPES, WEIGHTS
from .weight_bin import WeightFile, unpacked

FIELDS = {"float32": "floats", "int32": "ints", "bool": "bools", "string": "strings"}


def typed(kind: mil.ValueType, where: str) -> tuple[str, Shape]:
    """dtype and shape of a tensor or a state.  Raises GemmaError for any other type, or a size that varies."""
    if kind.WhichOneof("type") == "stateType":
        kind = kind.stateType.wrappedType
    if kind.WhichOneof("type") != "tensorType" or kind.tensorType.dataType not in DTYPES:
        raise refused(where, "has a type that this reader does not know")
    tensor = kind.tensorType
    if any(size.WhichOneof("dimension") != "constant" for size in tensor.dimensions) or tensor.rank != len(
        tensor.dimensions
    ):
        raise refused(where, "has a size that varies")
    return DTYPES[tensor.dataType], tuple(size.constant.size for size in tensor.dimensions)


def refused(where: str, what: str) -> GemmaError:
    return GemmaError(f"{where} {what}", "export the bundle again")


class Package:
    """An open package: `program`, and values of its constants."""

    def __init__(self, model: Path) -> None:
        """`model`: the model.mlmodel in it.  Raises GemmaError unless it is an mlprogram."""
        self.path = model
        saved = Model_pb2.Model()
        try:
            saved.ParseFromString(model.read_bytes())
        except (DecodeError, OSError) as error:
            raise refused(str(model), f"is not a Core ML model: {error}") from error
        if saved.WhichOneof("Type") != "mlProgram" or not saved.mlProgram.functions:
            raise refused(str(model), "has no program")
        self.program = saved.mlProgram
        self.weights = WeightFile(model.parent / "weights" / "weight.bin")

    def block(self, function: str) -> mil.Block:
        """Raises GemmaError if the program has no such function, or not in one form."""
        if function not in self.program.functions:
            raise refused(str(self.path), f"has no function {function}")
        body = self.program.functions[function]
        if list(body.block_specializations) != [body.opset]:
            raise refused(f"{self.path}: {function}", "has several forms")
        return body.block_specializations[body.opset]

    def raw(self, value: mil.Value, where: str) -> tuple[Bytes, str, Shape]:
        """The packed bytes of a tensor in the weight file, its dtype and its shape."""
        if value.WhichOneof("value") != "blobFileValue" or value.blobFileValue.fileName != WEIGHTS:
            raise refused(where, "is not in the weight file")
        dtype, shape = typed(value.type, where)
        return self.weights.read(value.blobFileValue.offset, dtype, shape), dtype, shape

    def constant(self, value: mil.Value, where: str) -> Array | str:
        """A constant's value, float16 and integers as they are stored; a word as a string."""
        if value.WhichOneof("value") == "blobFileValue":
            return unpacked(*self.raw(value, where))
        dtype, shape = typed(value.type, where)
        tensor = value.immediateValue.tensor
        if tensor.WhichOneof("value") != FIELDS.get(dtype):
            raise refused(where, f"does not hold {dtype}")
        listed = list(getattr(tensor, FIELDS[dtype]).values)
        if len(listed) != math.prod(shape):
            raise refused(where, f"holds {len(listed)} values for {shape}")
        return listed[0] if dtype == "string" else np.array(listed, dtype).reshape(shape)
