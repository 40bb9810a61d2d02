"""A captured graph becoming an ONNX one: values and their names, constants, weights and matmuls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch.fx import Node

from quantize.affine import Quantized
from runtime.errors import GemmaError

from ..model import operators as ops
from ..model.arrays import PIECE_ROWS, Array, Bytes, Floats, Shape
from ..model.capture import Graph
from ..model.operands import arguments
from ..weights.linears import Weights
from .external_data import ExternalData
from .read import FROM_ROW
from .settings import Settings

IR_VERSION, OPSET, MICROSOFT = 10, 21, "com.microsoft"
PER_ROW_BLOCK = {2: 128, 4: 256, 8: 256}  # one scale a row is repeated for blocks of this: the fastest kernels


class Lowering:
    """Walks a captured graph and emits ONNX nodes, a few for each operator."""

    def __init__(self, graph: Graph, settings: Settings, weights: Weights, data: ExternalData) -> None:
        self.graph, self.config, self.settings = graph, graph.config, settings
        self.weights, self.data = weights, data
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.names: dict[Node, str] = {}
        self.emitted: set[Node] = set()  # linears and norms that a neighbour took along
        self.outputs = list(graph.outputs)
        self.consumed: Counter[str] = Counter()  # weights, by parameter
        self.shared: set[str] = set()  # values of a call that several layers read

    def translate(self, translations: Translations) -> None:
        """Raises GemmaError for an operator that has no translation."""
        nodes = list(self.graph.program.graph.nodes)
        self.name_ends(nodes)
        for node in nodes:
            if node.op == "call_function" and node not in self.emitted:
                translation(translations, node)(self, node)
        twice = [name for name, uses in self.consumed.items() if uses != 1]
        left = [name for name in self.weights if name not in self.consumed]
        if twice or left:
            raise RuntimeError(f"weights used twice: {twice}, not used: {left}")

    def name_ends(self, nodes: Sequence[Node]) -> None:
        """Inputs, weights and outputs have their names before any node is emitted."""
        placeholders = iter(self.graph.inputs)
        for node in nodes:
            if node.op == "placeholder":
                if node.name in self.graph.weights:
                    self.names[node] = self.graph.weights[node.name]
                elif node.meta["val"] is not None:
                    self.names[node] = next(placeholders)
        ends = arguments(next(node for node in nodes if node.op == "output"))[0]
        self.names |= dict(zip(ends, self.graph.outputs, strict=True))

    # ---- values ----

    def name(self, node: Node) -> str:
        return self.names.setdefault(node, node.name)

    def value(self, argument: Any) -> str:
        """The name of a node's value, or of a number as a constant."""
        return self.name(argument) if isinstance(argument, Node) else self.constant(np.float32(argument))

    def constant(self, array: Array | np.generic) -> str:
        """A small tensor inside the graph; equal ones are one."""
        array = np.asarray(array)
        key = f"{array.dtype}:{array.shape}:{array.tobytes().hex()}"
        if key not in self.constants:
            name, dtype = f"constant.{len(self.constants)}", helper.np_dtype_to_tensor_dtype(array.dtype)
            self.constants[key] = helper.make_tensor(name, dtype, array.shape, array.tobytes(), raw=True)
        return self.constants[key].name

    def vector(self, node: Node) -> str:
        """Store a weight that stays float: norms and scalars.  One may serve twice (per_layer_projection_norm)."""
        parameter = self.parameter(node)
        return parameter if parameter in self.consumed else self.stored_once(parameter, self.weights.floats(parameter))

    def stored_once(self, parameter: str, values: Floats) -> str:
        """Store values for a parameter, if it has none yet; the name of their tensor."""
        if parameter not in self.consumed:
            self.stored(parameter, values.shape, [values])
            self.consumed[parameter] = 1
        return parameter

    def stored(self, name: str, shape: Shape, pieces: Iterable[Array]) -> str:
        """Store float32 values in the data file, from pieces along their first dimension; the name of their tensor."""
        return self.data.add(name, shape, np.float32, pieces)

    def parameter(self, node: Node) -> str:
        """The name of a weight."""
        return self.names[node]

    def is_weight(self, operand: Any) -> bool:
        return isinstance(operand, Node) and self.names.get(operand) in self.weights

    def take(self, nodes: Iterable[Node]) -> None:
        """Nodes that another emits along with itself."""
        self.emitted.update(nodes)

    def publish(self, names: Sequence[str]) -> None:
        """Add outputs of the graph that the model does not have."""
        self.outputs += names

    def gain(self, node: Node) -> Floats:
        """The values of a head norm, for a constant that a fused form builds."""
        parameter = self.parameter(node)
        self.consumed[parameter] = 1
        return self.weights.floats(parameter)

    def emit(
        self, op: str, inputs: Sequence[str], outputs: str | Sequence[str], domain: str = "", **attributes: Any
    ) -> None:
        outputs = [outputs] if isinstance(outputs, str) else list(outputs)
        self.nodes.append(helper.make_node(op, inputs, outputs, name=f"{outputs[0]}/{op}", domain=domain, **attributes))

    def first(self, name: str) -> bool:
        """Whether a value that several layers read is asked for the first time, and so has to be computed."""
        new = name not in self.shared
        self.shared.add(name)
        return new

    def choose(
        self,
        condition: str,
        outputs: Sequence[str],
        then: Callable[[], Sequence[str]],
        other: Callable[[], Sequence[str]],
    ) -> None:
        """Emit what one of two functions emits, by a value of the call; each names its outputs."""
        kinds = [self.cache_type() if name.startswith("present.") else TensorProto.FLOAT for name in outputs]
        then_branch, else_branch = (
            self.branch(f"{outputs[0]}.{i}", emit, kinds) for i, emit in enumerate((then, other))
        )
        self.emit("If", [condition], outputs, then_branch=then_branch, else_branch=else_branch)

    def branch(self, name: str, emit: Callable[[], Sequence[str]], kinds: Sequence[int]) -> onnx.GraphProto:
        outside, self.nodes = self.nodes, []
        ends = [helper.make_tensor_value_info(end, kind, None) for end, kind in zip(emit(), kinds, strict=True)]
        inside, self.nodes = self.nodes, outside
        return helper.make_graph(inside, name, [], ends)

    def reshape(self, x: str, shape: Sequence[int], out: str) -> str:
        self.emit("Reshape", [x, self.constant(np.array(shape, np.int64))], out)
        return out

    # ---- linears ----

    def matmul(self, x: str, parameters: Sequence[str], out: str) -> None:
        """One matmul with the rows of several weights of one scheme, one after another."""
        self.consumed.update(parameters)
        name = "+".join(parameters)
        matrices = (self.weights[parameter] for parameter in parameters)
        integers = [matrix for matrix in matrices if isinstance(matrix, Quantized)]
        if integers:
            self.matmul_integers(x, name, integers, out)
            return
        shapes = [self.weights.floats(parameter).shape for parameter in parameters]
        rows, inputs = sum(shape[0] for shape in shapes), shapes[0][1]
        pieces = (piece for parameter in parameters for piece in self.weights.read_rows(parameter, PIECE_ROWS))
        self.stored(name, (rows, inputs), pieces)
        self.emit("FusedMatMul", [x, name], out, MICROSOFT, transB=1)

    def matmul_integers(self, x: str, name: str, matrices: list[Quantized], out: str) -> None:
        if len(matrices) == 1 and matrices[0].packed.nbytes > self.settings.largest:
            self.matmul_in_parts(x, name, matrices[0], out)
            return
        scheme, inputs = matrices[0].scheme, matrices[0].inputs
        block = scheme.block or PER_ROW_BLOCK[scheme.bits]
        rows, groups = sum(matrix.rows for matrix in matrices), -(-inputs // block)
        blob = block * scheme.bits // 8
        pieces = (piece for matrix in matrices for piece in blobs(matrix, groups * blob))
        self.data.add(f"{name}.packed", (rows, groups, blob), np.uint8, pieces)
        self.stored(f"{name}.scales", (rows, groups), (spread(matrix, groups) for matrix in matrices))
        self.emit(
            "MatMulNBits", [x, f"{name}.packed", f"{name}.scales"], out, MICROSOFT,
            K=inputs, N=rows, bits=scheme.bits, block_size=block, accuracy_level=self.settings.accuracy,
        )  # fmt: skip

    def matmul_in_parts(self, x: str, name: str, matrix: Quantized, out: str) -> None:
        """A large table as several matmuls: while one is packed, only its own integers are in memory twice."""
        step = max(1, self.settings.largest // matrix.packed.shape[1])
        starts = range(0, matrix.rows, step)
        for start in starts:
            rows = slice(start, start + step)
            part = Quantized(matrix.packed[rows], matrix.scales[rows], matrix.scheme, matrix.inputs)
            self.matmul_integers(x, f"{name}{FROM_ROW}{start}", [part], f"{out}.{start}")
        self.emit("Concat", [f"{out}.{start}" for start in starts], out, axis=-1)

    def alike(self, operands: Sequence[Node]) -> bool:
        """Values that one matmul can give: of one input and one scheme, for this one reader, all rounded or none."""
        products = [product for product in map(product_of, operands) if product]
        if len(products) < max(2, len(operands)) or len(set(products)) < len(products):
            return False  # K is V: its weight would be stored and multiplied twice
        kinds = {
            (self.weights.schemes[self.parameter(product.weight)], product.input, product.scale > 0)
            for product in products
        }
        return len(kinds) == 1

    def fuse(self, operands: Sequence[Node], out: str) -> list[float]:
        """Emit one matmul for several values that are alike; the scale that each is to be rounded with.

        Nodes are in order, so their input is there already.
        """
        products = [product for product in map(product_of, operands) if product]
        self.take(node for product in products for node in product.nodes)
        parameters = [self.parameter(product.weight) for product in products]
        self.matmul(self.name(products[0].input), parameters, out)
        return [product.scale for product in products]

    @staticmethod
    def rounding(node: Node) -> StaticRounding | None:
        """Read what a node rounds with a static scale; None for another node."""
        return StaticRounding(*arguments(node)) if node.target is ops.fake_quantize.overload else None

    def fake_quantize(self, x: str, scale: float, out: str) -> str:
        """Round to the 8-bit multiples of a scale and back to floats: saturated, ties to even."""
        return self.to_steps_and_back(x, np.float32(scale), np.int8(0), out, axis=1)  # of one scale it means nothing

    def fake_quantize_heads(self, x: str, scales: Sequence[float], out: str) -> str:
        """Round heads (1, S, N, D) with a scale each, also where these are equal.

        A pair with one scale for all is moved through a Reshape beside it by onnxruntime 1.32, which then refuses
        its own graph; and along the last axis, of q, k and v side by side, a pair is 40 times slower.
        """
        return self.to_steps_and_back(x, np.array(scales, np.float32), np.zeros(len(scales), np.int8), out, axis=2)

    def to_steps_and_back(
        self, x: str, scale: Array | np.generic, zero: Array | np.generic, out: str, axis: int
    ) -> str:
        parameters = [self.constant(scale), self.constant(zero)]
        self.emit("QuantizeLinear", [x, *parameters], f"{out}.steps", axis=axis)
        self.emit("DequantizeLinear", [f"{out}.steps", *parameters], out, axis=axis)
        return out

    # ---- the model ----

    def model(self) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info(name, *self.input_type(name)) for name in self.used_inputs()]
        outputs = [helper.make_tensor_value_info(name, *self.output_type(name)) for name in self.outputs]
        initializers = [*self.constants.values(), *self.data.tensors]
        graph = helper.make_graph(self.nodes, "decoder", inputs, outputs, initializers)
        domains = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION, producer_name="gemma-edge")

    def used_inputs(self) -> list[str]:
        read = {name for node in every_node(self.nodes) for name in node.input}
        lengths = [f"{kind}.{part}" for kind in ("full", "sliding") for part in ("last", "total")]
        return [name for name in (*self.graph.inputs, *lengths) if name in read]

    def input_type(self, name: str) -> tuple[int, list[int | str]]:
        config = self.config
        own, dim = config.own_kv_layers, config.per_layer_dim
        if name.startswith("past."):
            return self.cache_type(), self.cache_shape(name)
        for kind, rope in config.ropes:
            if name in (f"{kind}.cos", f"{kind}.sin"):
                return TensorProto.FLOAT, ["rows", rope.head_dim // 2]
        types: dict[str, tuple[int, list[int | str]]] = {
            "inputs_embeds": (TensorProto.FLOAT, [1, "tokens", config.hidden]),
            "per_layer_inputs": (TensorProto.FLOAT, [1, "tokens", own * dim]),
            "per_layer_inputs_kept": (TensorProto.FLOAT, [1, "kept", config.shared_layers * dim]),
            "positions": (TensorProto.INT64, [1, "tokens"]),
            "positions_kept": (TensorProto.INT64, [1, "kept"]),
            "kept": (TensorProto.INT64, ["kept"]),
        }
        lengths: tuple[int, list[int | str]] = (TensorProto.INT32, [1] if name.endswith(".last") else [])
        return types.get(name, lengths)

    def output_type(self, name: str) -> tuple[int, list[int | str]]:
        if name.startswith(("present.", "kept.")):
            return self.cache_type(), self.cache_shape(name)
        return TensorProto.FLOAT, [1, "kept", self.config.vocab if name == "logits" else self.config.hidden]

    def cache_type(self) -> int:
        return int(TensorProto.INT8 if self.config.cache_bits else TensorProto.FLOAT)

    def cache_shape(self, name: str) -> list[int | str]:
        when, index, _ = name.split(".")
        layer = self.config.layers[int(index)]
        return [1, layer.kv_heads, f"{layer.kind}_{when}", layer.head_dim]


def every_node(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes, and those of their branches."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from every_node(attribute.g.node)


def blobs(stored: Quantized, width: int) -> Iterator[Bytes]:
    """Packed rows (n, width) uint8 as MatMulNBits reads them: all widths are stored with half added."""
    for start in range(0, stored.rows, PIECE_ROWS):
        piece = np.asarray(stored.packed[start : start + PIECE_ROWS])
        if stored.scheme.bits == 8:
            piece = piece ^ np.uint8(0x80)
        zero = {2: 0xAA, 4: 0x88, 8: 0x80}[stored.scheme.bits]
        yield np.pad(piece, ((0, 0), (0, width - piece.shape[1])), constant_values=zero)


def spread(stored: Quantized, groups: int) -> Floats:
    """Scales (rows, groups); one a row is repeated."""
    scales = np.asarray(stored.scales)
    return np.repeat(scales, groups, 1) if scales.shape[1] == 1 else scales


@dataclass(frozen=True)
class Product:
    """What a linear gives to its one reader, rounded with a static scale unless that is 0.

    nodes: the linear, and the rounding if there is one
    """

    nodes: tuple[Node, ...]
    scale: float

    @property
    def input(self) -> Node:
        x: Node = arguments(self.nodes[0])[0]
        return x

    @property
    def weight(self) -> Node:
        matrix: Node = arguments(self.nodes[0])[1]
        return matrix


@dataclass(frozen=True)
class StaticRounding:
    """A value that is rounded to the 8-bit multiples of a static scale."""

    input: Node
    scale: float


def product_of(operand: Node) -> Product | None:
    """Find the product of a linear that has this one reader; None for what is none."""
    if len(operand.users) != 1:
        return None
    if operand.target is ops.linear.overload:
        return Product((operand,), 0.0)
    rounding = Lowering.rounding(operand)
    if rounding is None:
        return None
    alone = rounding.input.target is ops.linear.overload and len(rounding.input.users) == 1
    return Product((rounding.input, operand), rounding.scale) if alone else None


Translations = Mapping[object, Callable[[Lowering, Node], None]]


def translation(translations: Translations, node: Node) -> Callable[[Lowering, Node], None]:
    translate = translations.get(node.target)
    if translate is None:
        raise GemmaError(
            f"the graph has the operator {node.target}, which the ONNX lowering does not know",
            "add it to export/to_onnx/operators.py",
        )
    return translate
