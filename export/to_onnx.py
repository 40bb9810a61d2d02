"""Graph -> onnx/decoder.onnx and its data file, for onnxruntime on a CPU.

One graph serves prompt and decoding.  Linears become MatMulNBits over our integers, `attend` becomes
GroupQueryAttention with the head norms before it.  A sliding layer's cache is a window that the
host moves (FORMAT.md, "Caches"), so that plain GroupQueryAttention with explicit positions serves
every onnxruntime from 1.29 on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch.fx import Node

from quantize.affine import Quantized
from runtime.errors import GemmaError
from runtime.manifest import Artifact, Memory, Tensor

from .capture import Graph
from .config import GemmaConfig
from .external_data import ExternalData
from .read_onnx import FROM_ROW
from .weights import Weights

IR_VERSION, OPSET, MICROSOFT = 10, 21, "com.microsoft"
ACCURACY = 4  # MatMulNBits: activations are rounded to int8, a block at a time
PER_ROW_BLOCK = {2: 128, 4: 256, 8: 256}  # one scale a row is repeated for blocks of this: the fastest kernels
# (bits, block) with a fast kernel; others fall back to one that is up to 50 times slower.
FAST = {
    (2, 32),
    (2, 64),
    (2, 128),
    (4, 16),
    (4, 32),
    (4, 64),
    (4, 128),
    (4, 256),
    (8, 16),
    (8, 32),
    (8, 64),
    (8, 128),
    (8, 256),
}
PIECE_ROWS = 8192
LARGEST = 32 << 20  # bytes of integers of one matmul

ops, aten = torch.ops.gemma_edge, torch.ops.aten


def lower(graph: Graph, weights: Weights, folder: Path) -> Artifact:
    """Write the artifact below `folder`; raises GemmaError for an operator that is not known."""
    (folder / "onnx").mkdir()
    with ExternalData(folder / "onnx" / "decoder.data") as data:
        lowering = Lowering(graph, weights, data)
        lowering.translate()
        model = lowering.model()
    path = folder / "onnx" / "decoder.onnx"
    path.write_bytes(model.SerializeToString())
    return Artifact(
        file="onnx/decoder.onnx",
        data="onnx/decoder.data",
        inputs=[described(value) for value in model.graph.input],
        outputs=[described(value) for value in model.graph.output],
        operators=census(model),
        memory=memory(data.tensors, graph.config),
    )


def memory(tensors: Sequence[TensorProto], config: GemmaConfig) -> Memory:
    """What onnxruntime takes, found by measuring (DECISIONS.md).

    It packs integers and scales into memory of its own and adds a float32 sum to each scale; a matrix
    of floats is packed too.  While it loads, the largest tensor stands beside its copy, and the file's
    scales are mapped.  A call holds the widest feed-forward of the layers that read a
    whole prompt (gate and up, and two factors), all their per-layer inputs twice, and four hidden states.
    """
    sizes = {tensor.name: int(tensor.external_data[2].value) for tensor in tensors}
    scales = sum(size for name, size in sizes.items() if name.endswith(".scales"))
    own = config.layers[: config.own_kv_layers]
    wide = 4 * max(layer.intermediate for layer in own) + 4 * config.hidden + 2 * len(own) * config.per_layer_dim
    return Memory(weights=sum(sizes.values()) + scales, loading=max(sizes.values()) + scales, token=4 * wide)


def described(value: onnx.ValueInfoProto) -> Tensor:
    shape = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
    return Tensor(name=value.name, dtype=dtype, shape=shape)


def census(model: onnx.ModelProto) -> dict[str, int]:
    """Operators by kind.  Raises GemmaError for a matmul that would fall back to a slow kernel."""
    counted: Counter[str] = Counter()
    for node in model.graph.node:
        kind = node.op_type
        if kind == "MatMulNBits":
            attributes = {a.name: a.i for a in node.attribute}
            bits, block = attributes["bits"], attributes["block_size"]
            kind = f"{kind} int{bits}/{block}"
            if (bits, block) not in FAST:
                raise GemmaError(f"{node.name}: {kind} has no fast kernel in onnxruntime", "choose another recipe")
        counted[kind] += 1
    return dict(sorted(counted.items()))


class Lowering:
    """Walks a captured graph and emits ONNX nodes, a few for each operator."""

    def __init__(self, graph: Graph, weights: Weights, data: ExternalData) -> None:
        self.graph, self.config, self.weights, self.data = graph, graph.config, weights, data
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.names: dict[Node, str] = {}
        self.emitted: set[Node] = set()  # linears and norms that a neighbour took along
        self.askers = iter(range(graph.config.own_kv_layers - 1, len(graph.config.layers)))
        self.outputs = list(graph.outputs)
        self.consumed: Counter[str] = Counter()  # weights, by parameter

    def translate(self) -> None:
        nodes = list(self.graph.program.graph.nodes)
        self.name_ends(nodes)
        for node in nodes:
            if node.op == "call_function" and node not in self.emitted:
                self.translation(node)(self, node)
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

    def translation(self, node: Node) -> Callable[[Lowering, Node], None]:
        found = TRANSLATIONS.get(node.target)
        if found is None:
            raise GemmaError(
                f"the graph has an operator {node.target}, which ONNX lowering does not know",
                "add it to export/to_onnx.py",
            )
        return found

    # ---- values ----

    def name(self, node: Node) -> str:
        return self.names.setdefault(node, node.name)

    def value(self, argument: Any) -> str:
        """The name of a node's value, or of a number as a constant."""
        return self.name(argument) if isinstance(argument, Node) else self.constant(np.float32(argument))

    def constant(self, array: NDArray[Any] | np.generic) -> str:
        """A small tensor inside the graph; equal ones are one."""
        array = np.asarray(array)
        key = f"{array.dtype}:{array.shape}:{array.tobytes().hex()}"
        if key not in self.constants:
            made = helper.make_tensor(
                f"constant.{len(self.constants)}",
                helper.np_dtype_to_tensor_dtype(array.dtype),
                array.shape,
                array.tobytes(),
                raw=True,
            )
            self.constants[key] = made
        return self.constants[key].name

    def vector(self, node: Node) -> str:
        """A weight that stays float: norms and scalars.  One may serve twice (per_layer_projection_norm)."""
        parameter = self.names[node]
        if parameter not in self.consumed:
            values = self.weights.floats(parameter)
            self.data.add(parameter, values.shape, np.float32, [values])
            self.consumed[parameter] = 1
        return parameter

    def gain(self, node: Node) -> NDArray[np.float32]:
        """The values of a head norm, for a constant that a fused form builds."""
        parameter = self.names[node]
        self.consumed[parameter] = 1
        return self.weights.floats(parameter)

    def emit(
        self, op: str, inputs: Sequence[str], outputs: str | Sequence[str], domain: str = "", **attributes: Any
    ) -> None:
        outputs = [outputs] if isinstance(outputs, str) else list(outputs)
        self.nodes.append(helper.make_node(op, inputs, outputs, name=f"{outputs[0]}/{op}", domain=domain, **attributes))

    def reshape(self, x: str, shape: Sequence[int], out: str) -> str:
        self.emit("Reshape", [x, self.constant(np.array(shape, np.int64))], out)
        return out

    # ---- linears ----

    def matmul(self, x: str, parameters: Sequence[str], out: str) -> None:
        """One matmul with the rows of several weights of one scheme, one after another."""
        self.consumed.update(parameters)
        name = "+".join(parameters)
        integers = [one for one in map(self.weights.__getitem__, parameters) if isinstance(one, Quantized)]
        if integers:
            self.matmul_integers(x, name, integers, out)
            return
        shapes = [self.weights.floats(parameter).shape for parameter in parameters]
        rows, inputs = sum(shape[0] for shape in shapes), shapes[0][1]
        pieces = (piece for parameter in parameters for piece in self.weights.read_rows(parameter, PIECE_ROWS))
        self.data.add(name, (rows, inputs), np.float32, pieces)
        self.emit("FusedMatMul", [x, name], out, MICROSOFT, transB=1)

    def matmul_integers(self, x: str, name: str, stored: list[Quantized], out: str) -> None:
        if len(stored) == 1 and stored[0].packed.nbytes > LARGEST:
            self.matmul_in_parts(x, name, stored[0], out)
            return
        scheme, inputs = stored[0].scheme, stored[0].inputs
        block = scheme.block or PER_ROW_BLOCK[scheme.bits]
        rows, groups = sum(one.rows for one in stored), -(-inputs // block)
        blob = block * scheme.bits // 8
        self.data.add(
            f"{name}.packed", (rows, groups, blob), np.uint8, (p for one in stored for p in blobs(one, groups * blob))
        )
        self.data.add(f"{name}.scales", (rows, groups), np.float32, (spread(one, groups) for one in stored))
        self.emit(
            "MatMulNBits", [x, f"{name}.packed", f"{name}.scales"], out, MICROSOFT,
            K=inputs, N=rows, bits=scheme.bits, block_size=block, accuracy_level=ACCURACY,
        )  # fmt: skip

    def matmul_in_parts(self, x: str, name: str, stored: Quantized, out: str) -> None:
        """A large table as several matmuls: while one is packed, only its own integers are in memory twice."""
        step = max(1, LARGEST // stored.packed.shape[1])
        starts = range(0, stored.rows, step)
        for start in starts:
            rows = slice(start, start + step)
            part = Quantized(stored.packed[rows], stored.scales[rows], stored.scheme, stored.inputs)
            self.matmul_integers(x, f"{name}{FROM_ROW}{start}", [part], f"{out}.{start}")
        self.emit("Concat", [f"{out}.{start}" for start in starts], out, axis=-1)

    def alike(self, linears: Sequence[Any]) -> bool:
        """Linears that one matmul can do: of one input and one scheme, for this one reader."""
        if not all(
            isinstance(node, Node) and node.target is ops.linear.default and len(node.users) == 1 for node in linears
        ):
            return False
        if len(set(linears)) < len(linears):
            return False  # K is V: its weight would be stored and multiplied twice
        schemes = {self.weights.schemes[self.names[arguments(node)[1]]] for node in linears}
        return len(schemes) == 1 and len({arguments(node)[0] for node in linears}) == 1

    def fuse(self, linears: Sequence[Node], out: str) -> str:
        """Emit one matmul for several linears.  Nodes are in order, so their input is there already."""
        self.emitted.update(linears)
        self.matmul(self.name(arguments(linears[0])[0]), [self.names[arguments(node)[1]] for node in linears], out)
        return out

    # ---- the model ----

    def model(self) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info(name, *self.input_type(name)) for name in self.used_inputs()]
        outputs = [helper.make_tensor_value_info(name, *self.output_type(name)) for name in self.outputs]
        initializers = [*self.constants.values(), *self.data.tensors]
        made = helper.make_graph(self.nodes, "decoder", inputs, outputs, initializers)
        domains = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(made, opset_imports=domains, ir_version=IR_VERSION, producer_name="gemma-edge")

    def used_inputs(self) -> list[str]:
        read = {name for node in self.nodes for name in node.input}
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


def blobs(stored: Quantized, width: int) -> Iterator[NDArray[np.uint8]]:
    """Packed rows (n, width) uint8 as MatMulNBits reads them: all widths are stored with half added."""
    for start in range(0, stored.rows, PIECE_ROWS):
        piece = np.asarray(stored.packed[start : start + PIECE_ROWS])
        if stored.scheme.bits == 8:
            piece = piece ^ np.uint8(0x80)
        zero = {2: 0xAA, 4: 0x88, 8: 0x80}[stored.scheme.bits]
        yield np.pad(piece, ((0, 0), (0, width - piece.shape[1])), constant_values=zero)


def spread(stored: Quantized, groups: int) -> NDArray[np.float32]:
    """Scales (rows, groups); one a row is repeated."""
    scales = np.asarray(stored.scales)
    return np.repeat(scales, groups, 1) if scales.shape[1] == 1 else scales


# ---- one function for each operator ----


def arguments(node: Node) -> Any:
    """A node's arguments: nodes, numbers, lists of either."""
    return node.args


def linear(to: Lowering, node: Node) -> None:
    x, weight = arguments(node)
    reader = next(iter(node.users))
    together = TOGETHER.get(reader.target, 0)
    if together and to.alike(arguments(reader)[:together]):
        return  # it takes its linears together
    to.matmul(to.value(x), [to.names[weight]], to.name(node))


def rms_norm(to: Lowering, node: Node) -> None:
    x, weight, eps = arguments(node)
    to.emit(
        "SimplifiedLayerNormalization",
        [to.value(x), to.vector(weight)],
        to.name(node),
        axis=-1,
        epsilon=eps,
        stash_type=1,
    )


def add(to: Lowering, node: Node) -> None:
    """A residual; with the norm that reads it, if there is one."""
    a, b = arguments(node)
    norms = [user for user in node.users if user.target is ops.rms_norm.default and arguments(user)[0] is node]
    if not norms:
        to.emit("Add", [to.value(a), to.value(b)], to.name(node))
        return
    _, weight, eps = arguments(norms[0])
    to.emitted.add(norms[0])
    to.emit(
        "SkipSimplifiedLayerNormalization", [to.value(a), to.value(b), to.vector(weight)],
        [to.name(norms[0]), "", "", to.name(node)], MICROSOFT, epsilon=eps,
    )  # fmt: skip


def multiply(to: Lowering, node: Node) -> None:
    a, b = arguments(node)
    right = to.vector(b) if isinstance(b, Node) and to.names.get(b) in to.weights else to.value(b)
    to.emit("Mul", [to.value(a), right], to.name(node))


def gelu_tanh(to: Lowering, node: Node) -> None:
    to.emit("Gelu", [to.value(arguments(node)[0])], to.name(node), approximate="tanh")


def attend(to: Lowering, node: Node) -> None:
    q, k, v, _, _, positions, cos, sin, past_key, past_value, scale, window, value_norm, _, *scales = arguments(node)
    out, shape = node.name, past_key.meta["val"].shape
    kv_heads, dim = int(shape[1]), int(shape[3])
    heads = int(q.meta["val"].shape[2]) // dim
    packed = to.alike(arguments(node)[:3])
    if packed and value_norm:
        qkv = packed_heads(to, node, heads, kv_heads, dim)
    elif packed:
        parts = [f"{out}.{part}" for part in "qkv"]
        sizes = to.constant(np.array([heads * dim, kv_heads * dim, kv_heads * dim], np.int64))
        to.emit("Split", [to.fuse([q, k, v], f"{out}.qkv"), sizes], parts, axis=-1)
        qkv = normed_heads(to, node, parts, heads, kv_heads, dim)
    else:
        qkv = normed_heads(to, node, [to.value(q), to.value(k), to.value(v)], heads, kv_heads, dim)
    ends = {arguments(user)[1]: user for user in node.users}
    to.emitted.update(ends.values())
    outputs = [to.name(ends[index]) for index in range(3)]
    query_attention(
        to,
        [*qkv, to.value(past_key), to.value(past_value)],
        outputs,
        (positions, cos, sin),
        scales,
        (heads, kv_heads, scale, window),
    )


def packed_heads(to: Lowering, node: Node, heads: int, kv_heads: int, dim: int) -> list[str]:
    """q, k and v as one tensor through one norm: V's gain is one."""
    q, k, v, q_gain, k_gain = arguments(node)[:5]
    out, eps, count = node.name, arguments(node)[13], heads + 2 * kv_heads
    gains: list[NDArray[Any]] = [
        np.tile(to.gain(q_gain), (heads, 1)),
        np.tile(to.gain(k_gain), (kv_heads, 1)),
        np.ones((kv_heads, dim), np.float32),
    ]
    gain = to.data.add(f"{out}.gain", (count, dim), np.float32, gains)
    to.reshape(to.fuse([q, k, v], f"{out}.qkv"), [1, -1, count, dim], f"{out}.heads")
    ones = to.constant(np.ones(dim, np.float32))
    to.emit("SimplifiedLayerNormalization", [f"{out}.heads", ones], f"{out}.unit", axis=-1, epsilon=eps, stash_type=1)
    to.emit("Mul", [f"{out}.unit", gain], f"{out}.normed")
    return [to.reshape(f"{out}.normed", [1, -1, count * dim], f"{out}.packed"), "", ""]


def normed_heads(to: Lowering, node: Node, parts: Sequence[str], heads: int, kv_heads: int, dim: int) -> list[str]:
    q_gain, k_gain, value_norm, eps = (arguments(node)[i] for i in (3, 4, 12, 13))
    query = head_norm(to, parts[0], to.vector(q_gain), heads, dim, f"{node.name}.q", eps)
    key = head_norm(to, parts[1], to.vector(k_gain), kv_heads, dim, f"{node.name}.k", eps)
    if not value_norm:
        return [query, key, parts[2]]
    ones = to.constant(np.ones(dim, np.float32))
    return [query, key, head_norm(to, parts[2], ones, kv_heads, dim, f"{node.name}.v", eps)]


def head_norm(to: Lowering, x: str, gain: str, heads: int, dim: int, out: str, eps: Any) -> str:
    one = heads == 1
    x = x if one else to.reshape(x, [1, -1, heads, dim], f"{out}.heads")
    to.emit("SimplifiedLayerNormalization", [x, gain], f"{out}.normed", axis=-1, epsilon=eps, stash_type=1)
    if one:
        return f"{out}.normed"
    return to.reshape(f"{out}.normed", [1, -1, heads * dim], f"{out}.flat")


def remember(to: Lowering, node: Node) -> None:
    """Attention whose queries are the keys, so that it is cheap; nobody reads what it answers."""
    k, v, gain, positions, cos, sin, past_key, past_value, value_norm, eps, *scales = arguments(node)
    layer = to.config.layers[to.config.own_kv_layers - 1]
    shape = past_key.meta["val"].shape
    kv_heads, dim = int(shape[1]), int(shape[3])
    parts = [to.value(k), to.value(v)]
    if to.alike([k, v]):
        parts = [f"{node.name}.{part}" for part in "kv"]
        sizes = to.constant(np.array([kv_heads * dim] * 2, np.int64))
        to.emit("Split", [to.fuse([k, v], f"{node.name}.kv"), sizes], parts, axis=-1)
    key = head_norm(to, parts[0], to.vector(gain), kv_heads, dim, f"{node.name}.k", eps)
    value = parts[1]
    if value_norm:
        value = head_norm(to, value, to.constant(np.ones(dim, np.float32)), kv_heads, dim, f"{node.name}.v", eps)
    ends = {arguments(user)[1]: user for user in node.users}
    to.emitted.update(ends.values())
    query_attention(
        to,
        [key, key, value, to.value(past_key), to.value(past_value)],
        [f"{node.name}.unread", *(to.name(ends[index]) for index in range(2))],
        (positions, cos, sin),
        scales,
        (kv_heads, kv_heads, 1.0, to.config.window if layer.kind == "sliding" else 0),
    )


def attend_shared(to: Lowering, node: Node) -> None:
    q, q_gain, positions, cos, sin, key, value, scale, window, eps, *scales = arguments(node)
    shape = key.meta["val"].shape
    kv_heads, dim = int(shape[1]), int(shape[3])
    heads = int(q.meta["val"].shape[2]) // dim
    query = head_norm(to, to.value(q), to.vector(q_gain), heads, dim, f"{node.name}.q", eps)
    nothing = to.constant(np.zeros((1, 0, kv_heads * dim), np.float32))
    # Without presents onnxruntime 1.29 and 1.30 crash; bound to the source's arrays they cost nothing.
    index = next(to.askers)
    when = "kept" if to.config.layers[index].owns_kv else "present"  # its present is the one it remembers with
    presents = [f"{when}.{index}.{part}" for part in ("key", "value")]
    to.outputs += presents
    query_attention(
        to,
        [query, nothing, nothing, to.value(key), to.value(value)],
        [to.name(node), *presents],
        (positions, cos, sin),
        scales,
        (heads, kv_heads, scale, window),
    )


def query_attention(
    to: Lowering,
    qkv_past: list[str],
    outputs: list[str],
    rotary: tuple[Any, Any, Any],
    scales: Sequence[Any],
    shape: tuple[Any, ...],
) -> None:
    positions, cos, sin = rotary
    heads, kv_heads, scale, window = shape
    kind = "sliding" if window else "full"
    inputs = [*qkv_past, f"{kind}.last", f"{kind}.total", to.value(cos), to.value(sin), to.value(positions)]
    attributes: dict[str, Any] = {"local_window_size": window} if window else {}
    if scales[0] is not None:
        inputs += ["", "", *(to.vector(scale) for scale in scales)]  # no attention_bias, no head_sink
        attributes |= {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
    to.emit(
        "GroupQueryAttention", inputs, outputs, MICROSOFT,
        num_heads=heads, kv_num_heads=kv_heads, scale=scale, do_rotary=1, **attributes,
    )  # fmt: skip


def reshape_as_captured(to: Lowering, node: Node) -> None:
    shape = [size if isinstance(size, int) else -1 for size in node.meta["val"].shape]
    if shape.count(-1) > 1:
        raise GemmaError(f"{node.name}: a shape of two unknown sizes can not be lowered to ONNX")
    to.reshape(to.value(arguments(node)[0]), shape, to.name(node))


def split(to: Lowering, node: Node) -> None:
    parts = {arguments(user)[1]: user for user in node.users}
    to.emitted.update(parts.values())
    sizes = [int(part.shape[-1]) for part in node.meta["val"]]
    outputs = [to.name(parts[i]) if i in parts else f"{node.name}.{i}" for i in range(len(sizes))]
    to.emit("Split", [to.value(arguments(node)[0]), to.constant(np.array(sizes, np.int64))], outputs, axis=-1)


def index_select(to: Lowering, node: Node) -> None:
    x, dim, index = arguments(node)
    to.emit("Gather", [to.value(x), to.value(index)], to.name(node), axis=dim)


def tanh(to: Lowering, node: Node) -> None:
    to.emit("Tanh", [to.value(arguments(node)[0])], to.name(node))


TOGETHER: dict[Any, int] = {ops.attend.default: 3, ops.remember.default: 2}  # linears among the first arguments
TRANSLATIONS: dict[Any, Callable[[Lowering, Node], None]] = {
    ops.linear.default: linear,
    ops.rms_norm.default: rms_norm,
    ops.gelu_tanh.default: gelu_tanh,
    ops.attend.default: attend,
    ops.remember.default: remember,
    ops.attend_shared.default: attend_shared,
    aten.add.Tensor: add,
    aten.mul.Tensor: multiply,
    aten.tanh.default: tanh,
    aten.unflatten.int: reshape_as_captured,
    aten.flatten.using_ints: reshape_as_captured,
    aten.split.Tensor: split,
    aten.index_select.default: index_select,
}
