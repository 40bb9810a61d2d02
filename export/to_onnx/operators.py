"""The operators of a captured graph as ONNX nodes, one function for each; attention is in attention.py."""

from __future__ import annotations

import numpy as np
import torch
from torch.fx import Node

from runtime.errors import GemmaError

from ..model import operators as ops
from ..model.operands import arguments
from .attention import attend, attend_cached, store_kv
from .builder import MICROSOFT, Lowering, Translations, product_of

aten = torch.ops.aten


def linear(to: Lowering, node: Node) -> None:
    if not taken_along(to, node):
        x, weight = arguments(node)
        to.matmul(to.value(x), [to.parameter(weight)], to.name(node))


def fake_quantize(to: Lowering, node: Node) -> None:
    if not any(user.target in HEADS for user in node.users):  # attention rounds heads
        x, scale = arguments(node)
        to.fake_quantize(to.value(x), scale, to.name(node))


def taken_along(to: Lowering, linear: Node) -> bool:
    """Whether the reader of a linear, or of its rounding, takes all its linears together."""
    reader = next(iter(linear.users))
    if reader.target is ops.fake_quantize.overload:
        reader = next(iter(reader.users))
    values = arguments(reader)[: HEADS.get(reader.target, 0)]
    products = map(product_of, values)
    return any(linear in product.nodes for product in products if product) and to.alike(values)


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
    norms = [user for user in node.users if user.target is ops.rms_norm.overload and arguments(user)[0] is node]
    if not norms:
        to.emit("Add", [to.value(a), to.value(b)], to.name(node))
        return
    _, weight, eps = arguments(norms[0])
    to.take(norms[:1])
    to.emit(
        "SkipSimplifiedLayerNormalization", [to.value(a), to.value(b), to.vector(weight)],
        [to.name(norms[0]), "", "", to.name(node)], MICROSOFT, epsilon=eps,
    )  # fmt: skip


def multiply(to: Lowering, node: Node) -> None:
    a, b = arguments(node)
    right = to.vector(b) if to.is_weight(b) else to.value(b)
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
    to.take(parts.values())
    sizes = [int(part.shape[-1]) for part in node.meta["val"]]
    outputs = [to.name(parts[i]) if i in parts else f"{node.name}.{i}" for i in range(len(sizes))]
    to.emit("Split", [to.value(arguments(node)[0]), to.constant(np.array(sizes, np.int64))], outputs, axis=-1)


def index_select(to: Lowering, node: Node) -> None:
    x, dim, index = arguments(node)
    to.emit("Gather", [to.value(x), to.value(index)], to.name(node), axis=dim)


def tanh(to: Lowering, node: Node) -> None:
    to.emit("Tanh", [to.value(arguments(node)[0])], to.name(node))


# How many of the first arguments are heads: those of q, k and v.
HEADS: dict[object, int] = {ops.attend.overload: 3, ops.store_kv.overload: 2, ops.attend_cached.overload: 1}
TRANSLATIONS: Translations = {
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
    aten.unflatten.int: reshape_as_captured,
    aten.flatten.using_ints: reshape_as_captured,
    aten.split.Tensor: split,
    aten.index_select.default: index_select,
}
