"""A captured part -> graph.onnx and its data file, for onnxruntime on a CPU.

Its nodes are aten's; each has a row in a table.  Linears are stored in float32, or as integers for MatMulNBits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch.fx import Node

from quantize.affine import quantize
from runtime.bundle.manifest import Artifact, Memory
from runtime.errors import GemmaError

from ..model.arrays import Array
from ..model.operands import arguments
from ..parts.source import PartGraph, PartSource
from .builder import IR_VERSION, MICROSOFT, OPSET, PER_ROW_BLOCK, blobs, spread
from .external_data import ExternalData
from .lower import census, described
from .settings import Settings

aten = torch.ops.aten
HINT = "add it to export/to_onnx/part.py"


def lower_part(source: PartSource, graph: PartGraph, settings: Settings, folder: Path, place: str) -> Artifact:
    """Write the artifact of a part in `place` below `folder`.

    Raises GemmaError for an operator that is not known, or a matmul that has no fast kernel.
    """
    (folder / place).mkdir()
    with ExternalData(folder / place / "graph.data") as data:
        lowering = PartLowering(source, graph, settings, data)
        lowering.translate()
        model = lowering.model()
    (folder / place / "graph.onnx").write_bytes(model.SerializeToString())
    size = (folder / place / "graph.data").stat().st_size
    if not size:
        (folder / place / "graph.data").unlink()
    return Artifact(
        file=f"{place}/graph.onnx",
        data=f"{place}/graph.data" if size else "",
        inputs=[described(value) for value in model.graph.input],
        outputs=[described(value) for value in model.graph.output],
        operators=census(model),
        memory=Memory(weights=size),
        context=source.most,
    )


class PartLowering:
    """Walks the graph of a part and emits ONNX nodes."""

    def __init__(self, source: PartSource, graph: PartGraph, settings: Settings, data: ExternalData) -> None:
        self.source, self.graph, self.settings, self.data = source, graph, settings, data
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.names: dict[Node, str] = {}
        self.stored: set[str] = set()

    def translate(self) -> None:
        """Emit every node.  Raises GemmaError for an operator that has no translation."""
        nodes = list(self.graph.program.graph.nodes)
        inputs = iter(self.graph.inputs)
        for node in nodes:
            if node.op == "placeholder":
                self.names[node] = node.name if node.name in self.graph.weights else next(inputs)
            elif node.op == "call_function":
                self.translation(node)(self, node)
        values = next(node for node in nodes if node.op == "output").args[0]
        for value, name in zip(values, self.graph.outputs, strict=True):
            self.emit("Identity", [self.value(value)], name)
        self.ends = list(zip(self.graph.outputs, values, strict=True))

    def translation(self, node: Node) -> TranslatePart:
        """Return what emits a node.  Raises GemmaError if nothing does."""
        emit = TRANSLATIONS.get(node.target)
        if emit is None:
            raise GemmaError(
                f"part {self.source.name!r} has an operator {node.target}, which its ONNX lowering does not know",
                HINT,
            )
        return emit

    def emit(self, op: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> None:
        """Add a node of one output."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{output}/{op}", domain=domain, **attributes))

    def value(self, argument: Any) -> str:
        """Name a node's value, which is a weight, too, or a number as a constant."""
        if not isinstance(argument, Node):
            return self.constant(np.float32(argument))
        name = self.names.setdefault(argument, argument.name)
        if name in self.graph.weights and name not in self.stored:
            array = self.graph.weights[name].numpy()
            self.store(name, array)
        return name

    def constant(self, array: Array | np.generic) -> str:
        """Name a small tensor inside the graph; equal ones are one."""
        array = np.asarray(array)
        key = f"{array.dtype}:{array.shape}:{array.tobytes().hex()}"
        dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
        name = f"constant.{len(self.constants)}"
        tensor = helper.make_tensor(name, dtype, array.shape, array.tobytes(), raw=True)
        return self.constants.setdefault(key, tensor).name

    def store(self, name: str, array: Array) -> None:
        """Write a tensor to the data file once."""
        self.stored.add(name)
        self.data.add(name, array.shape, array.dtype.type, [array])

    def model(self) -> onnx.ModelProto:
        """Return the whole graph."""
        nodes = [node for node in self.graph.program.graph.nodes if self.names.get(node) in self.graph.inputs]
        inputs = [self.end(self.names[node], node) for node in nodes if node.op == "placeholder"]
        outputs = [self.end(name, node) for name, node in self.ends]
        tensors = [*self.constants.values(), *self.data.tensors]
        graph = helper.make_graph(self.nodes, self.source.name, inputs, outputs, tensors)
        domains = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION, producer_name="gemma-edge")

    def end(self, name: str, node: Node) -> onnx.ValueInfoProto:
        """Describe an input or an output."""
        value = node.meta["val"]
        dtype = helper.np_dtype_to_tensor_dtype(torch.empty(0, dtype=value.dtype).numpy().dtype)
        return helper.make_tensor_value_info(name, dtype, self.graph.shape(name, value))


TranslatePart = Callable[[PartLowering, Node], None]


def plain(op: str) -> TranslatePart:
    """Translate to one node that reads all arguments.  Raises GemmaError where the operator scales one of them."""

    def emit(to: PartLowering, node: Node) -> None:
        if node.kwargs:
            raise GemmaError(f"{node.name}: {op} with {dict(node.kwargs)} can not be lowered to ONNX", HINT)
        to.emit(op, [to.value(argument) for argument in node.args], node.name)

    return emit


def same(to: PartLowering, node: Node) -> None:
    """A copy, in whatever memory."""
    to.emit("Identity", [to.value(node.args[0])], node.name)


def linear(to: PartLowering, node: Node) -> None:
    """x · weightᵀ, and a bias if there is one."""
    x, weight, bias = (*arguments(node), None)[:3]
    product = node.name if bias is None else f"{node.name}.product"
    if to.source.linears.is_float:
        to.emit("FusedMatMul", [to.value(x), to.value(weight)], product, MICROSOFT, transB=1)
    else:
        matmul_integers(to, to.value(x), weight.name, product)
    if bias is not None:
        to.emit("Add", [product, to.value(bias)], node.name)


def matmul_integers(to: PartLowering, x: str, name: str, out: str) -> None:
    """A product with integers of the scheme that the part asks for, which are stored once."""
    scheme, values = to.source.linears, to.graph.weights[name].numpy()
    rows, inputs = values.shape
    block = scheme.block or PER_ROW_BLOCK[scheme.bits]
    groups, blob = -(-inputs // block), block * scheme.bits // 8
    if f"{name}.packed" not in to.stored:
        integers, _ = quantize(values, scheme)
        to.store(f"{name}.packed", np.concatenate(list(blobs(integers, groups * blob))).reshape(rows, groups, blob))
        to.store(f"{name}.scales", spread(integers, groups))
    to.emit(
        "MatMulNBits", [x, f"{name}.packed", f"{name}.scales"], out, MICROSOFT,
        K=inputs, N=rows, bits=scheme.bits, block_size=block, accuracy_level=to.settings.accuracy,
    )  # fmt: skip


def layer_norm(to: PartLowering, node: Node) -> None:
    """A norm over the last axes, with a gain, a bias, both or neither."""
    x, shape, gain, bias, eps = (*arguments(node), *(None, None, 1e-5)[len(node.args) - 2 :])[:5]
    gains = to.constant(np.ones(shape, np.float32)) if gain is None else to.value(gain)
    biases = [] if bias is None else [to.value(bias)]
    to.emit("LayerNormalization", [to.value(x), gains, *biases], node.name, axis=-len(shape), epsilon=eps)


def gelu(to: PartLowering, node: Node) -> None:
    to.emit("Gelu", [to.value(node.args[0])], node.name, approximate=node.kwargs.get("approximate", "none"))


def softmax(to: PartLowering, node: Node) -> None:
    x, axis, *_ = arguments(node)
    to.emit("Softmax", [to.value(x)], node.name, axis=axis)


def transpose(to: PartLowering, node: Node) -> None:
    x, first, second = arguments(node)
    order = list(range(x.meta["val"].dim()))
    order[first], order[second] = order[second], order[first]
    to.emit("Transpose", [to.value(x)], node.name, perm=order)


def permute(to: PartLowering, node: Node) -> None:
    x, order = arguments(node)
    to.emit("Transpose", [to.value(x)], node.name, perm=order)


def reshape(to: PartLowering, node: Node) -> None:
    """Another shape, in which one size may vary.  Raises GemmaError if two do."""
    stated = arguments(node)[1] if node.target in SAID else node.meta["val"].shape
    shape = [size if isinstance(size, int) else -1 for size in stated]
    if shape.count(-1) > 1:
        raise GemmaError(f"{node.name}: a shape of two sizes that vary can not be lowered to ONNX", HINT)
    to.emit("Reshape", [to.value(node.args[0]), to.constant(np.array(shape, np.int64))], node.name)


def cut(to: PartLowering, node: Node) -> None:
    """A slice along one axis.  Raises GemmaError where its ends vary."""
    x, axis, *ends = (*arguments(node), *(0, 0, None, 1)[len(node.args) - 1 :])[:5]
    first, stop, step = ends[0] or 0, sys.maxsize if ends[1] is None else ends[1], ends[2]
    if not all(isinstance(end, int) for end in (first, stop)):
        raise GemmaError(f"{node.name}: a slice with an end that varies can not be lowered to ONNX", HINT)
    names = [to.constant(np.array([number], np.int64)) for number in (first, stop, axis, step)]
    to.emit("Slice", [to.value(x), *names], node.name)


def concatenate(to: PartLowering, node: Node) -> None:
    values, axis = (*arguments(node), 0)[:2]
    to.emit("Concat", [to.value(value) for value in values], node.name, axis=axis)


def mean(to: PartLowering, node: Node) -> None:
    x, axes, kept = (*arguments(node), False)[:3]
    to.emit("ReduceMean", [to.value(x), to.constant(np.array(axes, np.int64))], node.name, keepdims=int(kept))


SAID = (aten.reshape.default, aten.view.default)  # operators that are told the whole shape
TRANSLATIONS: Mapping[Any, TranslatePart] = {
    aten.linear.default: linear,
    aten.layer_norm.default: layer_norm,
    aten.gelu.default: gelu,
    aten.softmax.int: softmax,
    aten.transpose.int: transpose,
    aten.permute.default: permute,
    aten.slice.Tensor: cut,
    aten.cat.default: concatenate,
    aten.mean.dim: mean,
    **dict.fromkeys(
        [*SAID, aten.flatten.using_ints, aten.unflatten.int, aten.unsqueeze.default],
        reshape,
    ),
    **dict.fromkeys([aten.alias.default, aten.clone.default, aten.contiguous.default], same),
    aten.add.Tensor: plain("Add"),
    aten.sub.Tensor: plain("Sub"),
    aten.mul.Tensor: plain("Mul"),
    aten.div.Tensor: plain("Div"),
    aten.matmul.default: plain("MatMul"),
    aten.relu.default: plain("Relu"),
    aten.tanh.default: plain("Tanh"),
    aten.sigmoid.default: plain("Sigmoid"),
}
