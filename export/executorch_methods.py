"""A captured graph as the methods of an ExecuTorch program: `decode` of one token, `prefill` of many.

A method walks the graph's nodes, each in the form of executorch_operators.py.  Caches are buffers that
both methods share.  `prefill` stops after the last layer that owns keys and values has stored them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from runtime.errors import GemmaError

from . import executorch_operators as forms
from .capture import Graph
from .config import GemmaConfig
from .executorch_linears import Inputs
from .executorch_operators import Cache, Place

ops, aten = torch.ops.gemma_edge, torch.ops.aten
HIDDEN_SCORE = -1e9  # added to the score of a row that a token does not see


@dataclass(frozen=True)
class Rows:
    """Rows of the caches of each kind of layer."""

    sliding: int
    full: int

    def of(self, kind: str) -> int:
        return self.sliding if kind == "sliding" else self.full


@dataclass(frozen=True)
class Values:
    """What all methods read: a module for each linear, vectors by parameter, and the caches by layer."""

    linears: Mapping[str, nn.Module]
    vectors: Mapping[str, Tensor]
    caches: Mapping[int, Cache]


def empty_caches(config: GemmaConfig, rows: Rows) -> dict[int, Cache]:
    return {
        layer.index: Cache(
            torch.zeros(layer.kv_heads, layer.head_dim, rows.of(layer.kind)),
            torch.zeros(layer.kv_heads, rows.of(layer.kind), layer.head_dim),
        )
        for layer in config.layers
        if layer.owns_kv
    }


def example(config: GemmaConfig, rows: Rows, tokens: int, *, whole: bool) -> dict[str, Tensor]:
    """Inputs of a method that reads `tokens` tokens, by name and in order; `whole`: all layers, with logits."""
    own, shared = config.own_kv_layers, config.shared_layers
    inputs = {"inputs_embeds": torch.zeros(1, tokens, config.hidden)}
    if config.per_layer_dim:
        inputs["per_layer_inputs"] = torch.zeros(1, tokens, own * config.per_layer_dim)
    if config.per_layer_dim and shared and whole:
        inputs["per_layer_inputs_kept"] = torch.zeros(1, tokens, shared * config.per_layer_dim)
    for kind, rope in config.ropes:
        inputs[f"{kind}.slots"] = torch.arange(tokens)
        inputs[f"{kind}.mask"] = torch.zeros(tokens, rows.of(kind))
        inputs[f"{kind}.cos"] = torch.zeros(tokens, rope.head_dim // 2)
        inputs[f"{kind}.sin"] = torch.zeros(tokens, rope.head_dim // 2)
    return inputs


class Method(nn.Module):
    """`forward` takes the inputs of `example`; gives logits and hidden states if `whole`, else nothing."""

    def __init__(self, graph: Graph, values: Values, names: Sequence[str], *, whole: bool) -> None:
        super().__init__()
        self.graph, self.names, self.whole = graph, list(names), whole
        self.nodes = needed(graph, whole=whole)
        used = {graph.weights[node.name] for node in self.nodes if node.name in graph.weights}
        self.linears = nn.ModuleDict({key(name): values.linears[name] for name in values.linears if name in used})
        for name in used & values.vectors.keys():
            self.register_buffer(key(name), values.vectors[name])
        for index, cache in values.caches.items():
            self.register_buffer(f"cache_{index}_key", cache.key)
            self.register_buffer(f"cache_{index}_value", cache.value)
        widths = {graph.config.hidden, graph.config.per_layer_dim, *(one.head_dim for one in graph.config.layers)}
        for width in widths - {0}:
            self.register_buffer(f"ones_{width}", torch.full((1, width), 1.0 / width))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.names, inputs, strict=True))
        self.places = {
            kind: Place(*(given[f"{kind}.{part}"] for part in ("slots", "mask", "cos", "sin")))
            for kind, _ in self.graph.config.ropes
        }
        found: dict[Node, Any] = self.placeholders(given)
        self.inputs: dict[Any, Inputs] = {}
        for node in self.nodes:
            if node.op == "call_function":
                arguments = torch.fx.node.map_arg(node.args, found.__getitem__)
                found[node] = translation(node)(self, node, *arguments)
        return tuple(found[node] for node in ends(self.graph)[:2]) if self.whole else ()

    def placeholders(self, given: Mapping[str, Tensor]) -> dict[Node, Any]:
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
            found[node] = self.cache(int(name.split(".")[1])) if name.startswith("past.") else given.get(name)
        return found

    def cache(self, index: int) -> Cache:
        return Cache(getattr(self, f"cache_{index}_key"), getattr(self, f"cache_{index}_value"))

    def vector(self, name: str) -> Tensor:
        found: Tensor = getattr(self, key(name))
        return found

    def unit(self, x: Tensor, eps: float) -> Tensor:
        return forms.unit(x, getattr(self, f"ones_{x.shape[-1]}"), eps)

    def place(self, window: int) -> Place:
        return self.places["sliding" if window else "full"]

    def head(self, x: Tensor, gain: str, place: Place, eps: float) -> Tensor:
        """Queries or keys (1, S, N·D), normed and rotated, (N, S, D)."""
        weight = self.vector(gain)
        return forms.rotate(self.unit(forms.split_heads(x, len(weight)), eps) * weight, place)

    def new(self, k: Tensor, v: Tensor, gain: str, past: Cache, place: Place, value_norm: bool, eps: float) -> Cache:
        value = forms.split_heads(v, past.value.shape[-1])
        value = self.unit(value, eps) if value_norm else value
        return forms.keep(past, self.head(k, gain, place, eps), value, place)


def key(name: str) -> str:
    return name.replace(".", "_")


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
            "add it to export/executorch_methods.py",
        )
    return found


# ---- one function for each operator; arguments are those of operators.py ----


def linear(to: Method, node: Node, x: Tensor, weight: str) -> Tensor:
    inputs = to.inputs.setdefault(node.args[0], Inputs(x))  # linears of one input share what they make of it
    out: Tensor = to.linears[key(weight)](inputs)
    return out


def rms_norm(to: Method, _: Node, x: Tensor, weight: str, eps: float) -> Tensor:
    return to.unit(x, eps) * to.vector(weight)


def gelu_tanh(to: Method, _: Node, x: Tensor) -> Tensor:
    return forms.gelu_tanh(x)


def attend(to: Method, _: Node, q: Tensor, k: Tensor, v: Tensor, q_gain: str, k_gain: str, *rest: Any) -> Any:
    past, scale, window, value_norm, eps = rest[3], *rest[5:9]
    place = to.place(window)
    cache = to.new(k, v, k_gain, past, place, value_norm, eps)
    return forms.attended(to.head(q, q_gain, place, eps), cache, place, scale), cache, cache


def remember(to: Method, node: Node, k: Tensor, v: Tensor, k_gain: str, *rest: Any) -> Any:
    past, value_norm, eps = rest[3], rest[5], rest[6]
    config = to.graph.config
    place = to.places[config.layers[config.own_kv_layers - 1].kind]
    cache = to.new(k, v, k_gain, past, place, value_norm, eps)
    return cache, cache


def attend_shared(to: Method, _: Node, q: Tensor, q_gain: str, *rest: Any) -> Tensor:
    cache, scale, window, eps = rest[3], *rest[5:8]
    place = to.place(window)
    return forms.attended(to.head(q, q_gain, place, eps), cache, place, scale)


def multiply(to: Method, _: Node, a: Tensor, b: Any) -> Tensor:
    return a * (to.vector(b) if isinstance(b, str) else b)


def split(to: Method, _: Node, x: Tensor, size: int, dim: int) -> list[Tensor]:
    """Slices: XNNPACK does not take a split, nor a slice that is the whole."""
    if size >= x.shape[dim]:
        return [x]
    return [x[..., start : start + size] for start in range(0, x.shape[dim], size)]


def unflatten(to: Method, _: Node, x: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    return x.reshape(*x.shape[:dim], *sizes)


def flatten(to: Method, _: Node, x: Tensor, start: int) -> Tensor:
    return x.flatten(start)


def index_select(to: Method, _: Node, x: Tensor, dim: int, index: Any) -> Tensor:
    """The kept positions, of a method that keeps all."""
    return x


def item(to: Method, _: Node, values: Sequence[Any], index: int) -> Any:
    return values[index]


def add(to: Method, _: Node, a: Tensor, b: Tensor) -> Tensor:
    return a + b


def tanh(to: Method, _: Node, x: Tensor) -> Tensor:
    return torch.tanh(x)


TRANSLATIONS: dict[Any, Callable[..., Any]] = {
    ops.linear.default: linear,
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
