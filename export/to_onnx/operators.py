"""The operators of a captured graph as ONNX nodes, one function for each; attention is in onnx_attention.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.fx import Node

from runtime.errors import GemmaError

from .attention import attend, attend_shared, remember
from .builder import MICROSOFT, Lowering, Translations, arguments, product

ops, aten = torch.ops.gemma_edge, torch.ops.aten


def linear(to: Lowering, node: Node) -> None:
    if not taken_along(to, node):
        x, weight = arguments(node)
        to.matmul(to.value(x), [to.names[weight]], to.name(node))


def fake_quantize(to: Lowering, node: Node) -> None:
    if not any(user.target in HEADS for user in node.users):  # attention rounds heads
        x, scale = arguments(node)
        to.fake_quantize(to.value(x), scale, to.name(node))


def taken_along(to: Lowering, linear: Node) -> bool:
    """Whether the reader of a linear, or of its rounding, takes all its linears together."""
    reader = next(iter(linear.users))
    if reader.target is ops.fake_quantize.default:
        reader = next(iter(reader.users))
    values = arguments(reader)[: HEADS.get(reader.target, 0)]
    mine = any(linear in one.nodes for one in map(product, values) if one)
    return mine and to.alike(values)


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


def reshape_as_captured(to: Lowering, node: Node) -> None:
    shape = [size if isinstance(size, int) else -1 for size in node.meta["val"].shape]
    if shape.count(-1) > 1:
        raise GemmaError(f"{node.name}: a shape with two unknown sizes cannot be lowered to ONNX")
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


# How many of the first arguments are heads: those of q, k and v.
HEADS: dict[Any, int] = {ops.attend.default: 3, ops.remember.default: 2, ops.attend_shared.default: 1}
TRANSLATIONS: Translations = {
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
    aten.unflatten.int: reshape_as_captured,
    aten.flatten.using_ints: reshape_as_captured,
    aten.split.Tensor: split,
    aten.index_select.default: index_select,
}
