"""Linears over the containers of containers.py in XNNPACK's operators.

An input is rounded to 8 bits once for all linears that read it.  The sums of its blocks, too, are made once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from executorch.backends.xnnpack.serialization.xnnpack_graph_schema import XNNDatatype

from ..model.arrays import Floats
from .containers import PART_SEP, STATIC, CodeMatrix, Container
from .serialization import file_data
from .xnnpack_graph import Builder, Constant, XnnValue

BY_ROW = {8: XNNDatatype.xnn_datatype_qcint8, 4: XNNDatatype.xnn_datatype_qcint4}
BY_BLOCK = XNNDatatype.xnn_datatype_qbint4
FLOAT_TYPES = {"float32": XNNDatatype.xnn_datatype_fp32, "float16": XNNDatatype.xnn_datatype_fp16}


@dataclass(frozen=True)
class XnnLinear:
    """Matrices (N, K) of integers that are added, or one of floats; offsets (N, G).

    static: the one matrix has columns for the ends of its inputs' static range, (N, K + 2)
    """

    parts: list[XnnValue]
    offsets: XnnValue | None = None
    static: bool = False

    def multiplied(self, to: Builder, x: XnnValue, scale: float = 0.0) -> XnnValue:
        """(1, S, K) to (1, S, N).  `scale`: x are multiples of it, of a static range."""
        wide = to.with_ends(x, scale) if self.static else x
        terms = [to.fully_connected(to.rounded(wide) if part.scales else x, part) for part in self.parts]
        if self.offsets:
            terms.append(to.fully_connected(block_sums(to, x, self.offsets.shape[1]), self.offsets))
        out = terms[0]
        for term in terms[1:]:
            out = to.add(out, term)
        return out


def block_sums(to: Builder, x: XnnValue, blocks: int) -> XnnValue:
    """(1, S, K) to (1, S, blocks)."""
    _, steps, inputs = x.shape
    width = inputs // blocks

    def make(x: XnnValue) -> XnnValue:
        ones = to.array(f"ones/{width}", np.ones((1, width), np.float32))
        return to.reshape(to.fully_connected(to.reshape(x, 1, steps, blocks, width), ones), 1, steps, blocks)

    return to.once(x, blocks, make)


def contained_linear(name: str, container: Container) -> XnnLinear:
    parts = [matrix(f"{name}{PART_SEP}{name_of_part}", part) for name_of_part, part in container.parts.items()]
    static = STATIC in container.parts
    if container.offsets is None:
        return XnnLinear(parts, static=static)
    kind = FLOAT_TYPES[container.offsets.dtype.name]
    constant = Constant(f"{name}{PART_SEP}offsets", container.offsets.tobytes())
    return XnnLinear(parts, XnnValue(container.offsets.shape, kind, constant), static)


def matrix(name: str, part: CodeMatrix) -> XnnValue:
    codes = Constant(name, file_data(part.file))
    scales = part.scales.view(np.uint32) >> 16 if part.block else part.scales  # bfloat16, which NumPy has not
    stored = scales.astype(np.uint16) if part.block else scales
    kind = BY_BLOCK if part.block else BY_ROW[part.bits]
    return XnnValue(part.shape, kind, codes, Constant(f"{name}.scales", stored.tobytes()), part.block)


def float_linear(name: str, values: Floats) -> XnnLinear:
    return XnnLinear([XnnValue(values.shape, constant=Constant(name, np.asarray(values, np.float32).tobytes()))])
