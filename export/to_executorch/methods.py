"""A captured graph as the methods of an ExecuTorch program: `decode` of one token, `prefill` of many.

A method walks the graph's nodes, each in the form of executorch_operators.py.  Both methods read and write
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

from ..model.arrays import Floats
from ..model.capture import Graph
from ..model.config import FLOATS, GemmaConfig
from . import operators as forms
from .linears import XnnLinear
from .operators import Cache, Place
from .xnnpack_graph import FLOAT, INT64, Builder, XnnValue

ops, aten = torch.ops.gemma_edge, torch.ops.aten
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
    """Of a method that reads `tokens` tokens, in order; `whole`: all layers, with logits."""
    own, shared, dim = config.own_kv_layers, config.shared_layers, config.per_layer_dim
    found = [Tensor(name="inputs_embeds", dtype="float32", shape=[1, tokens, config.hidden])]
    if dim:
        found.append(Tensor(name="per_layer_inputs", dtype="float32", shape=[1, tokens, own * dim]))
    if dim and shared and whole:
        found.append(Tensor(name="per_layer_inputs_kept", dtype="float32", shape=[1, tokens, shared * dim]))
    for kind, rope in config.ropes:
        found.append(Tensor(name=f"{kind}.slots", dtype="int64", shape=[tokens]))
        found.append(Tensor(name=f"{kind}.mask", dtype="float32", shape=[tokens, rows.of(kind)]))
        found += [
            Tensor(name=f"{kind}.{part}", dtype="float32", shape=[tokens, rope.head_dim // 2])
            for part in ("cos", "sin")
        ]
    return found


@dataclass(frozen=True)
class Method:
    """What is done, in order, with inputs to outputs."""

    name: str
    inputs: dict[str, XnnValue]
    steps: list[Any]
    outputs: list[XnnValue]


def method(name: str, graph: Graph, weights: MethodWeights, described: Sequence[Tensor], *, whole: bool) -> Method:
    """Gives logits and hidden states if `whole`, else nothing."""
    given = {one.name: XnnValue(tuple(map(int, one.shape)), DATATYPES[one.dtype]) for one in described}
    walk = Walk(graph, weights, given)
    found = walk.run(needed(graph, whole=whole))
    outputs = [found[node] for node in ends(graph)[:2]] if whole else []
    return Method(name, given, walk.to.steps, outputs)


class Walk:
    """Emits every node of a graph."""

    def __init__(self, graph: Graph, weights: MethodWeights, given: Mapping[str, XnnValue]) -> None:
        self.graph, self.weights, self.given, self.to = graph, weights, given, Builder()
        self.places = {
            kind: Place(*(given[f"{kind}.{part}"] for part in ("slots", "mask", "cos", "sin")))
            for kind, _ in graph.config.ropes
        }

    def run(self, nodes: Sequence[Node]) -> dict[Node, Any]:
        found = self.placeholders()
        for node in nodes:
            if node.op == "call_function":
                arguments = torch.fx.node.map_arg(node.args, found.__getitem__)
                found[node] = translation(node)(self, *arguments)
        return found

    def placeholders(self) -> dict[Node, Any]:
        """Weights by name, caches, and inputs; what a method does not take is None."""
        found: dict[Node, Any] = {}
        names = iter(self.graph.inputs)
        for node in self.graph.program.graph.nodes:
            if node.op != "placeholder":
                continue
            if node.name in self.graph.weights:
                found[node] = self.graph.weights[node.name]
                continue
            name = next(names) if node.meta["val"] is not None else ""
            cache = name.startswith("past.")
            found[node] = self.weights.caches[int(name.split(".")[1])] if cache else self.given.get(name)
        return found

    def vector(self, name: str) -> XnnValue:
        return self.to.array(name, self.weights.vectors[name])

    def place(self, window: int) -> Place:
        return self.places["sliding" if window else "full"]

    def head(self, x: XnnValue, gain: str, place: Place, eps: float) -> XnnValue:
        """Queries or keys (1, S, N·D), normed and rotated, (N, S, D)."""
        weight = self.vector(gain)
        heads = forms.split_heads(self.to, x, weight.shape[0])
        return forms.rotate(self.to, self.to.multiply(forms.unit(self.to, heads, eps), weight), place)

    def new(
        self, k: XnnValue, v: XnnValue, gain: str, past: Cache, place: Place, value_norm: bool, eps: float
    ) -> Cache:
        value = forms.split_heads(self.to, v, past.value.shape[-1])
        value = forms.unit(self.to, value, eps) if value_norm else value
        return forms.keep(self.to, past, self.head(k, gain, place, eps), value, place)


def ends(graph: Graph) -> tuple[Node, ...]:
    """Nodes of logits, hidden states, and presents."""
    output = next(node for node in graph.program.graph.nodes if node.op == "output")
    found: Any = output.args[0]
    return tuple(found)


def needed(graph: Graph, *, whole: bool) -> list[Node]:
    """Nodes that the outputs of a method come from, in order."""
    found: set[Node] = set()
    waiting = list(ends(graph)) if whole else list(ends(graph)[2:])
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return [node for node in graph.program.graph.nodes if node in found]


def translation(node: Node) -> Callable[..., Any]:
    found = TRANSLATIONS.get(node.target)
    if found is None:
        raise GemmaError(
            f"the graph has an operator {node.target}, which ExecuTorch lowering does not know",
            "add it to export/to_executorch/methods.py",
        )
    return found


# ---- one function for each operator; arguments are those of operators.py ----


def linear(walk: Walk, x: XnnValue, weight: str) -> XnnValue:
    scales = walk.graph.config.activation_scales.get(weight.removesuffix(".weight"), FLOATS)
    return walk.weights.linears[weight].multiplied(walk.to, x, scales.input)


def fake_quantize(walk: Walk, x: XnnValue, scale: float) -> XnnValue:
    return walk.to.fake_quantize(x, scale)


def rms_norm(walk: Walk, x: XnnValue, weight: str, eps: float) -> XnnValue:
    return walk.to.multiply(forms.unit(walk.to, x, eps), walk.vector(weight))


def gelu_tanh(walk: Walk, x: XnnValue) -> XnnValue:
    return forms.gelu_tanh(walk.to, x)


def attend(walk: Walk, q: XnnValue, k: XnnValue, v: XnnValue, q_gain: str, k_gain: str, *rest: Any) -> Any:
    past, scale, window, value_norm, eps = rest[3], *rest[5:9]
    place = walk.place(window)
    query = walk.head(q, q_gain, place, eps)
    cache = walk.new(k, v, k_gain, past, place, value_norm, eps)
    return forms.attended(walk.to, query, cache, place, scale), cache, cache


def remember(walk: Walk, k: XnnValue, v: XnnValue, k_gain: str, *rest: Any) -> Any:
    past, value_norm, eps = rest[3], rest[5], rest[6]
    config = walk.graph.config
    place = walk.places[config.layers[config.own_kv_layers - 1].kind]
    cache = walk.new(k, v, k_gain, past, place, value_norm, eps)
    return cache, cache


def attend_shared(walk: Walk, q: XnnValue, q_gain: str, *rest: Any) -> XnnValue:
    cache, scale, window, eps = rest[3], *rest[5:8]
    place = walk.place(window)
    return forms.attended(walk.to, walk.head(q, q_gain, place, eps), cache, place, scale)


def multiply(walk: Walk, a: XnnValue, b: Any) -> XnnValue:
    if isinstance(b, str):
        return walk.to.multiply(a, walk.vector(b))
    return walk.to.multiply(a, b if isinstance(b, XnnValue) else walk.to.number(b))


def split(walk: Walk, x: XnnValue, size: int, dim: int) -> list[XnnValue]:
    """Of the last dimension."""
    return [walk.to.slice(x, start, start + size) for start in range(0, x.shape[-1], size)]


def unflatten(walk: Walk, x: XnnValue, dim: int, sizes: Sequence[int]) -> XnnValue:
    """The last dimension in several; -1 is what is left for one."""
    known = prod(size for size in sizes if size > 0)
    found = (x.shape[-1] // known if size < 0 else size for size in sizes)
    return walk.to.reshape(x, *x.shape[:-1], *found)


def flatten(walk: Walk, x: XnnValue, start: int) -> XnnValue:
    return walk.to.reshape(x, *x.shape[:start], prod(x.shape[start:]))


def index_select(walk: Walk, x: XnnValue, dim: int, index: Any) -> XnnValue:
    """The kept positions, of a method that keeps all."""
    return x


def item(walk: Walk, values: Sequence[Any], index: int) -> Any:
    return values[index]


def add(walk: Walk, a: XnnValue, b: XnnValue) -> XnnValue:
    return walk.to.add(a, b)


def tanh(walk: Walk, x: XnnValue) -> XnnValue:
    return walk.to.tanh(x)


TRANSLATIONS: dict[Any, Callable[..., Any]] = {
    ops.linear.default: linear,
    ops.fake_quantize.default: fake_quantize,
    ops.rms_norm.default: rms_norm,
    ops.gelu_tanh.default: gelu_tanh,
    ops.attend.default: attend,
    ops.remember.default: remember,
    ops.attend_shared.default: attend_shared,
    aten.add.Tensor: add,
    aten.mul.Tensor: multiply,
    aten.tanh.default: tanh,
    aten.unflatten.int: unflatten,
    aten.flatten.using_ints: flatten,
    aten.split.Tensor: split,
    aten.index_select.default: index_select,
    operator.getitem: item,
}
