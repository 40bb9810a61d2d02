"""A captured graph as the methods of an ExecuTorch program: `decode` of one token, `prefill` of many.

A method walks the graph's nodes, each in the form of operators.py.  Both methods read and write
the same caches.  `prefill` stops after the last layer that owns keys and values has stored them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch.fx import Node

from runtime.bundle.manifest import Tensor
from runtime.errors import GemmaError

from ..model import operators as ops
from ..model.arrays import Floats
from ..model.capture import Graph
from ..model.config import FLOATS, GemmaConfig
from ..model.operands import Attend, AttendCached, StoreKV, arguments
from . import operators as forms
from .linears import XnnLinear
from .operators import Cache, Place
from .xnnpack_graph import FLOAT, INT64, Builder, Step, XnnValue

aten = torch.ops.aten
DATATYPES = {"float32": FLOAT, "int64": INT64}


@dataclass(frozen=True)
class CacheRows:
    """Rows of the caches of each kind of layer."""

    sliding: int
    full: int

    def of(self, kind: str) -> int:
        return self.sliding if kind == "sliding" else self.full


@dataclass(frozen=True)
class MethodWeights:
    """What all methods read: matrices and vectors by parameter, and the caches by layer."""

    linears: Mapping[str, XnnLinear]
    vectors: Mapping[str, Floats]
    caches: Mapping[int, Cache]


def empty_caches(config: GemmaConfig, rows: CacheRows) -> dict[int, Cache]:
    return {
        layer.index: Cache(
            XnnValue((layer.kv_heads, layer.head_dim, rows.of(layer.kind))),
            XnnValue((layer.kv_heads, rows.of(layer.kind), layer.head_dim)),
        )
        for layer in config.layers
        if layer.owns_kv
    }


def inputs(config: GemmaConfig, rows: CacheRows, tokens: int, *, whole: bool) -> list[Tensor]:
    """Inputs, in order, of a method that reads `tokens` tokens; `whole`: through all layers, to logits."""
    own, shared, dim = config.own_kv_layers, config.shared_layers, config.per_layer_dim
    tensors = [Tensor(name="inputs_embeds", dtype="float32", shape=[1, tokens, config.hidden])]
    if dim:
        tensors.append(Tensor(name="per_layer_inputs", dtype="float32", shape=[1, tokens, own * dim]))
    if dim and shared and whole:
        tensors.append(Tensor(name="per_layer_inputs_kept", dtype="float32", shape=[1, tokens, shared * dim]))
    for kind, rope in config.ropes:
        tensors.append(Tensor(name=f"{kind}.slots", dtype="int64", shape=[tokens]))
        tensors.append(Tensor(name=f"{kind}.mask", dtype="float32", shape=[tokens, rows.of(kind)]))
        tensors += [
            Tensor(name=f"{kind}.{part}", dtype="float32", shape=[tokens, rope.head_dim // 2])
            for part in ("cos", "sin")
        ]
    return tensors


@dataclass(frozen=True)
class Method:
    """What is done, in order, with inputs to outputs."""

    name: str
    inputs: dict[str, XnnValue]
    steps: list[Step]
    outputs: list[XnnValue]


def method(name: str, graph: Graph, weights: MethodWeights, described: Sequence[Tensor], *, whole: bool) -> Method:
    """A method that gives logits and hidden states if `whole`, else nothing."""
    values = {tensor.name: XnnValue(tuple(map(int, tensor.shape)), DATATYPES[tensor.dtype]) for tensor in described}
    walk = Walk(graph, weights, values)
    walk.run(needed(graph, whole=whole))
    outputs = [walk.value(node) for node in ends(graph)[:2]] if whole else []
    return Method(name, values, walk.to.steps, outputs)


Result = XnnValue | Cache | Sequence["Result"] | None


class Walk:
    """Emits every node of a graph."""

    def __init__(self, graph: Graph, weights: MethodWeights, inputs: Mapping[str, XnnValue]) -> None:
        self.config, self.weights, self.to = graph.config, weights, Builder()
        self.parameters: dict[Node, str] = {}
        self.results: dict[Node, Result] = {}
        self.places = {
            kind: Place(*(inputs[f"{kind}.{part}"] for part in ("slots", "mask", "cos", "sin")))
            for kind, _ in graph.config.ropes
        }
        self._enter(graph, inputs)

    def _enter(self, graph: Graph, inputs: Mapping[str, XnnValue]) -> None:
        """Weights by name, caches, and inputs; what a method does not take is None."""
        names = iter(graph.inputs)
        for node in graph.program.graph.nodes:
            if node.op != "placeholder":
                continue
            if node.name in graph.weights:
                self.parameters[node] = graph.weights[node.name]
                continue
            name = next(names) if node.meta["val"] is not None else ""
            layer = name.split(".")[1] if name.startswith("past.") else ""
            self.results[node] = self.weights.caches[int(layer)] if layer else inputs.get(name)

    def run(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            if node.op == "call_function":
                self.results[node] = translation(node)(self, node)

    # ---- what nodes are ----

    def value(self, operand: Any) -> XnnValue:
        """A node's value, or a number as a constant."""
        if isinstance(operand, Node):
            return self.vector(operand) if operand in self.parameters else value_of(self.results[operand])
        return self.to.number(operand)

    def vector(self, node: Node) -> XnnValue:
        name = self.parameters[node]
        return self.to.array(name, self.weights.vectors[name])

    def cache(self, node: Node) -> Cache:
        cache = self.results[node]
        if not isinstance(cache, Cache):
            raise TypeError(f"{node} is not a cache")
        return cache

    def place(self, window: int) -> Place:
        return self.places["sliding" if window else "full"]

    # ---- what several operators need ----

    def head(self, x: Node, gain: Node, place: Place, eps: float) -> XnnValue:
        """Queries or keys (1, S, N·D), normed and rotated, (N, S, D)."""
        weight = self.vector(gain)
        heads = forms.split_heads(self.to, self.value(x), weight.shape[0])
        return forms.rotate(self.to, self.to.multiply(forms.unit(self.to, heads, eps), weight), place)

    def stored(self, operands: Attend | StoreKV, place: Place) -> Cache:
        """The cache, with new keys and values put into it."""
        past = self.cache(operands.past_key)
        value = forms.split_heads(self.to, self.value(operands.v), past.value.shape[-1])
        value = forms.unit(self.to, value, operands.eps) if operands.value_norm else value
        return forms.keep(self.to, past, self.head(operands.k, operands.k_gain, place, operands.eps), value, place)


def value_of(result: Result) -> XnnValue:
    if not isinstance(result, XnnValue):
        raise TypeError(f"{result!r} is not a value")
    return result


def ends(graph: Graph) -> tuple[Node, ...]:
    """Nodes of logits, hidden states, and presents."""
    output = next(node for node in graph.program.graph.nodes if node.op == "output")
    return tuple(arguments(output)[0])


def needed(graph: Graph, *, whole: bool) -> list[Node]:
    """Nodes that the outputs of a method come from, in order."""
    reached: set[Node] = set()
    waiting = list(ends(graph)) if whole else list(ends(graph)[2:])
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += node.all_input_nodes
    return [node for node in graph.program.graph.nodes if node in reached]


def translation(node: Node) -> Translate:
    translate = TRANSLATIONS.get(node.target)
    if translate is None:
        raise GemmaError(
            f"the graph has the operator {node.target}, which the ExecuTorch lowering does not know",
            "add it to export/to_executorch/methods.py",
        )
    return translate


# ---- one function for each operator ----


def linear(walk: Walk, node: Node) -> XnnValue:
    x, weight = arguments(node)
    parameter = walk.parameters[weight]
    scales = walk.config.activation_scales.get(parameter.removesuffix(".weight"), FLOATS)
    return walk.weights.linears[parameter].multiplied(walk.to, walk.value(x), scales.input)


def fake_quantize(walk: Walk, node: Node) -> XnnValue:
    x, scale = arguments(node)
    return walk.to.fake_quantize(walk.value(x), scale)


def rms_norm(walk: Walk, node: Node) -> XnnValue:
    x, weight, eps = arguments(node)
    return walk.to.multiply(forms.unit(walk.to, walk.value(x), eps), walk.vector(weight))


def gelu_tanh(walk: Walk, node: Node) -> XnnValue:
    return forms.gelu_tanh(walk.to, walk.value(arguments(node)[0]))


def attend(walk: Walk, node: Node) -> tuple[XnnValue, Cache, Cache]:
    operands = Attend.of(node)
    place = walk.place(operands.window)
    query = walk.head(operands.q, operands.q_gain, place, operands.eps)
    cache = walk.stored(operands, place)
    return forms.attended(walk.to, query, cache, place, operands.scale), cache, cache


def store_kv(walk: Walk, node: Node) -> tuple[Cache, Cache]:
    operands = StoreKV.of(node)
    cache = walk.stored(operands, walk.places[walk.config.layers[operands.layer].kind])
    return cache, cache


def attend_cached(walk: Walk, node: Node) -> XnnValue:
    operands = AttendCached.of(node)
    place = walk.place(operands.window)
    query = walk.head(operands.q, operands.q_gain, place, operands.eps)
    return forms.attended(walk.to, query, walk.cache(operands.key), place, operands.scale)


def multiply(walk: Walk, node: Node) -> XnnValue:
    a, b = arguments(node)
    return walk.to.multiply(walk.value(a), walk.value(b))


def split(walk: Walk, node: Node) -> list[XnnValue]:
    """Pieces of the last dimension."""
    x, size, _ = arguments(node)
    whole = walk.value(x)
    return [walk.to.slice(whole, start, start + size) for start in range(0, whole.shape[-1], size)]


def unflatten(walk: Walk, node: Node) -> XnnValue:
    """The last dimension in several; -1 is what is left for one."""
    x, _, sizes = arguments(node)
    whole, known = walk.value(x), prod(size for size in sizes if size > 0)
    return walk.to.reshape(
        whole, *whole.shape[:-1], *(whole.shape[-1] // known if size < 0 else size for size in sizes)
    )


def flatten(walk: Walk, node: Node) -> XnnValue:
    """Dimensions from one to the last, as one."""
    x, start = arguments(node)
    whole = walk.value(x)
    return walk.to.reshape(whole, *whole.shape[:start], prod(whole.shape[start:]))


def index_select(walk: Walk, node: Node) -> XnnValue:
    """The kept positions, of a method that keeps all."""
    return walk.value(arguments(node)[0])


def item(walk: Walk, node: Node) -> Result:
    several, index = arguments(node)
    results = walk.results[several]
    if not isinstance(results, list | tuple):
        raise TypeError(f"{several} has no items")
    item: Result = results[index]
    return item


def add(walk: Walk, node: Node) -> XnnValue:
    a, b = arguments(node)
    return walk.to.add(walk.value(a), walk.value(b))


def tanh(walk: Walk, node: Node) -> XnnValue:
    return walk.to.tanh(walk.value(arguments(node)[0]))


Translate = Callable[[Walk, Node], Result]
TRANSLATIONS: dict[object, Translate] = {
    ops.linear.overload: linear,
    ops.fake_quantize.overload: fake_quantize,
    ops.rms_norm.overload: rms_norm,
    ops.gelu_tanh.overload: gelu_tanh,
    ops.attend.overload: attend,
    ops.store_kv.overload: store_kv,
    ops.attend_cached.overload: attend_cached,
    aten.add.Tensor: add,
    aten.mul.Tensor: multiply,
    aten.tanh.default: tanh,
    aten.unflatten.int: unflatten,
    aten.flatten.using_ints: flatten,
    aten.split.Tensor: split,
    aten.index_select.default: index_select,
    operator.getitem: item,
}
