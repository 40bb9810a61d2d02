"""What each operator of a captured graph becomes in Core ML, and what its values are there.

Linears, keys and values are float16; all between them is float32: norms, rotary positions, softmax,
GELU, the residual stream and the softcap.  Squares overflow float16, its 1e-6 is a subnormal number,
and a residual of 130 has steps of an eighth.  Attention is written out, because Core ML's own divides
by the root of the head dim, and Gemma does not.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from ..model import operators as ops
from ..model.arrays import Shape
from ..model.config import GemmaConfig, Kind
from ..model.operands import Attend, AttendCached, StoreKV, arguments
from .program import VALUES, BlobTensor, FunctionBuilder, MilValue

aten = torch.ops.aten


@dataclass(frozen=True)
class MilMatrix:
    """A linear's weight in the weight file: `data` and, unless it is floats, `scale` or a table.

    factor (rows,) float32: what products with the whole numbers of a static range are multiplied by, their scale and
    what float16 took from the scale of each row
    """

    data: BlobTensor
    scale: BlobTensor | None = None
    table: BlobTensor | None = None
    factor: BlobTensor | None = None

    @property
    def dtype(self) -> str:
        """That it is multiplied in."""
        return "float16" if self.scale or self.table else "float32"

    @property
    def shape(self) -> Shape:
        return self.data.shape


@dataclass(frozen=True)
class Rounded:
    """A value on a static range: whole numbers from -128 to 127 in float32, which float16 has too, and their scale."""

    steps: MilValue
    scale: float


@dataclass(frozen=True)
class Cached:
    """Keys or values of a layer: (1, K, past + S, D), and the S new ones of them."""

    present: MilValue
    new: MilValue


@dataclass(frozen=True)
class Ends:
    """What a function is fed: values by the graph's names, and the rotary rows and masks of each kind of layer."""

    values: dict[str, MilValue]
    kept: MilValue | None  # (1,) index among the S, or None where S is 1
    cos: dict[Kind, MilValue]  # (1, 1, S, D/2)
    sin: dict[Kind, MilValue]
    mask: dict[Kind, MilValue]  # (1, 1, S, past + S)


class Translation:
    """One function: walks the nodes of a graph, and knows what each is in Core ML."""

    def __init__(
        self,
        to: FunctionBuilder,
        config: GemmaConfig,
        ends: Ends,
        pasts: dict[str, MilValue],
        matrices: dict[str, MilMatrix],
        vectors: dict[str, BlobTensor],
        zeros: Callable[[str, int], BlobTensor],
    ) -> None:
        """`pasts`: (1, K, past, D) by the graph's names; `zeros`: of a dtype and size, stored."""
        self.to, self.config, self.ends, self.pasts = to, config, ends, pasts
        self.matrices, self.vectors, self.zeros = matrices, vectors, zeros
        self.values: dict[Node, Any] = {}
        self.parameters: dict[Node, str] = {}
        self.used: set[str] = set()
        self.kept_rows: dict[str, MilValue] = {}
        self.multiples: dict[tuple[str, float], MilValue] = {}

    # ---- what nodes are ----

    def value(self, node: Node) -> MilValue:
        value = self.values[node]
        if isinstance(value, Rounded):
            return self.scaled(value.steps, value.scale)
        if not isinstance(value, MilValue):
            raise TypeError(f"{node} is not a value")
        return value

    def cached(self, node: Node) -> Cached:
        cached = self.values[node]
        if not isinstance(cached, Cached):
            raise TypeError(f"{node} is not keys or values")
        return cached

    def scaled(self, x: MilValue, scale: float) -> MilValue:
        """Scale in float32, once for all who ask."""
        key = x.name, scale
        if key not in self.multiples:
            self.multiples[key] = self.to.both("mul", self.to.cast(x, "float32"), self.to.number(scale))
        return self.multiples[key]

    def floats(self, node: Any) -> MilValue:
        """A node's value in float32, a weight that stays float, or a number."""
        if not isinstance(node, Node):
            return self.to.number(float(node))
        if node in self.parameters:
            return self.vector(node)
        return self.to.cast(self.value(node), "float32")

    def vector(self, node: Node) -> MilValue:
        name = self.parameters[node]
        self.used.add(name)
        return self.to.stored(self.vectors[name], name)

    def of_kept(self, x: MilValue) -> MilValue:
        """The rows (1, 1, 1, n) of the kept position, of (1, 1, S, n)."""
        if self.ends.kept is None:
            return x
        if x.name not in self.kept_rows:
            self.kept_rows[x.name] = self.to.gather(x, self.ends.kept, 2)
        return self.kept_rows[x.name]

    # ---- what several operators need ----

    def normed(self, x: MilValue, eps: float, gain: MilValue | None = None) -> MilValue:
        """x / sqrt(mean(x²) + eps) · gain over the last axis, in float32."""
        to = self.to
        arguments = {
            "x": to.both("mul", x, x),
            "axes": to.integers(-1),
            "keep_dims": to.constant(np.bool_(True)),
        }
        mean = to.emit("reduce_mean", arguments, "float32", (*x.shape[:-1], 1))
        root = to.emit("rsqrt", {"x": mean, "epsilon": to.number(eps)}, "float32", mean.shape)
        unit = to.both("mul", x, root)
        return unit if gain is None else to.both("mul", unit, gain)

    def heads(self, x: MilValue, dim: int, eps: float, gain: MilValue | None, normed: bool = True) -> MilValue:
        """(1, S, N·D) to normed (1, N, S, D), float32."""
        x = self.to.cast(x, "float32")
        x = self.to.reshape(x, (1, x.shape[1], x.shape[2] // dim, dim))
        return self.to.transpose(self.normed(x, eps, gain) if normed else x, 0, 2, 1, 3)

    def rotated(self, x: MilValue, cos: MilValue, sin: MilValue) -> MilValue:
        """x (1, N, S, D) by cos and sin (1, 1, S, D/2)."""
        to, half = self.to, x.shape[-1] // 2
        a, b = to.split(x, [half, half], -1)
        left = to.both("sub", to.both("mul", a, cos), to.both("mul", b, sin))
        right = to.both("add", to.both("mul", b, cos), to.both("mul", a, sin))
        return to.concat([left, right], 3)

    def appended(self, past: MilValue, new: MilValue) -> Cached:
        """Past (1, K, T, D) and new (1, K, S, D): present (1, K, T + S, D)."""
        new = self.to.cast(new, "float16")
        return Cached(self.to.concat([past, new], 2), new)

    def attention(self, query: MilValue, key: Cached, value: Cached, mask: MilValue, scale: float) -> MilValue:
        """softmax(query · keyᵀ · scale + mask) · value: query (1, H, S, D) to (1, S, H·D).

        The queries of a key head are more rows, so that keys and values are not repeated.
        """
        to = self.to
        _, heads, steps, dim = query.shape
        _, kv_heads, total, _ = key.present.shape
        grouped = (1, kv_heads, heads // kv_heads * steps)
        query = to.reshape(to.cast(query, "float16"), (*grouped, dim))
        raw = to.cast(self.product(query, key.present, transposed=True), "float32")
        if scale != 1.0:
            raw = to.both("mul", raw, to.number(scale))
        masked = to.both("add", to.reshape(raw, (1, heads, steps, total)), mask)
        axis = to.constant(np.int32(-1))
        shares = to.emit("softmax", {"x": masked, "axis": axis}, "float32", masked.shape)
        shares = to.reshape(to.cast(shares, "float16"), (*grouped, total))
        mixed = to.reshape(self.product(shares, value.present, transposed=False), (1, heads, steps, dim))
        return to.reshape(to.transpose(mixed, 0, 2, 1, 3), (1, steps, heads * dim))

    def product(self, x: MilValue, y: MilValue, *, transposed: bool) -> MilValue:
        """(1, K, n, m) by (1, K, m, p), or its transpose."""
        shape = (*x.shape[:-1], y.shape[-2] if transposed else y.shape[-1])
        flags = {
            f"transpose_{side}": self.to.constant(np.bool_(flag)) for side, flag in (("x", False), ("y", transposed))
        }
        return self.to.emit("matmul", {"x": x, "y": y, **flags}, x.dtype, shape)


# ---- one function for each operator ----


def linear(of: Translation, node: Node) -> MilValue:
    """Multiply the whole numbers of a rounded input: float16 would round their multiples of the scale."""
    source, weight = of.values[arguments(node)[0]], of.parameters[arguments(node)[1]]
    if isinstance(source, Rounded):
        product, factor = product_of(of, source.steps, weight), of.matrices[weight].factor
        if factor is None:
            return of.scaled(product, source.scale)
        return of.to.both("mul", of.to.cast(product, "float32"), of.to.stored(factor, f"{weight}.factor"))
    return product_of(of, of.value(arguments(node)[0]), weight)


def product_of(of: Translation, x: MilValue, weight: str) -> MilValue:
    of.used.add(weight)
    matrix = of.matrices[weight]
    rows, _ = matrix.shape
    operands = {
        "x": of.to.cast(x, matrix.dtype),
        "weight": dense(of, matrix, weight),
        "bias": of.to.stored(of.zeros(matrix.dtype, rows), "no_bias"),
    }
    return of.to.emit("linear", operands, matrix.dtype, (*x.shape[:-1], rows), weight)


def dense(of: Translation, matrix: MilMatrix, name: str) -> MilValue:
    """The weight (rows, inputs) as Core ML makes it of our integers."""
    if matrix.scale:
        arguments = {"data": matrix.data, "scale": matrix.scale}
        return of.to.emit("constexpr_blockwise_shift_scale", arguments, "float16", matrix.shape, f"{name}{VALUES}")
    if matrix.table:
        arguments = {"indices": matrix.data, "lut": matrix.table}
        return of.to.emit("constexpr_lut_to_dense", arguments, "float16", matrix.shape, f"{name}{VALUES}")
    return of.to.stored(matrix.data, f"{name}{VALUES}")


def fake_quantize(of: Translation, node: Node) -> Rounded:
    """An overflow of float16 before it is saturated as a large number is."""
    to, (tensor, scale) = of.to, arguments(node)
    steps = to.both("real_div", of.floats(tensor), to.number(scale))
    steps = to.emit("round", {"x": steps}, "float32", steps.shape)
    ends = {"alpha": to.number(-128.0), "beta": to.number(127.0)}
    return Rounded(to.emit("clip", {"x": steps, **ends}, "float32", steps.shape), scale)


def rms_norm(of: Translation, node: Node) -> MilValue:
    x, weight, eps = arguments(node)
    return of.normed(of.floats(x), eps, of.vector(weight))


def gelu_tanh(of: Translation, node: Node) -> MilValue:
    x = of.floats(node.args[0])
    mode = of.to.constant("TANH_APPROXIMATION")  # the other one is erf, and not Gemma's
    return of.to.emit("gelu", {"x": x, "mode": mode}, "float32", x.shape)


def attend(of: Translation, node: Node) -> tuple[MilValue, Cached, Cached]:
    operands = Attend.of(node)
    kind: Kind = "sliding" if operands.window else "full"
    key, value = stored(of, operands, kind)
    query = of.heads(of.value(operands.q), key.new.shape[3], operands.eps, of.vector(operands.q_gain))
    query = of.rotated(query, of.ends.cos[kind], of.ends.sin[kind])
    return of.attention(query, key, value, of.ends.mask[kind], operands.scale), key, value


def store_kv(of: Translation, node: Node) -> tuple[Cached, Cached]:
    operands = StoreKV.of(node)
    return stored(of, operands, of.config.layers[operands.layer].kind)


def stored(of: Translation, operands: Attend | StoreKV, kind: Kind) -> tuple[Cached, Cached]:
    """Keys, normed and rotated, and values, behind those of the past."""
    past, eps = of.value(operands.past_key), operands.eps
    heads = of.heads(of.value(operands.k), past.shape[3], eps, of.vector(operands.k_gain))
    key = of.rotated(heads, of.ends.cos[kind], of.ends.sin[kind])
    value = of.heads(of.value(operands.v), past.shape[3], eps, None, normed=operands.value_norm)
    return of.appended(past, key), of.appended(of.value(operands.past_value), value)


def attend_cached(of: Translation, node: Node) -> MilValue:
    """Attend from the kept position alone."""
    operands = AttendCached.of(node)
    kind: Kind = "sliding" if operands.window else "full"
    key, value = of.cached(operands.key), of.cached(operands.value)
    cos, sin, mask = (of.of_kept(rows[kind]) for rows in (of.ends.cos, of.ends.sin, of.ends.mask))
    heads = of.heads(of.value(operands.q), key.new.shape[3], operands.eps, of.vector(operands.q_gain))
    return of.attention(of.rotated(heads, cos, sin), key, value, mask, operands.scale)


def binary(kind: str) -> Callable[[Translation, Node], MilValue]:
    def translate(of: Translation, node: Node) -> MilValue:
        a, b = arguments(node)
        return of.to.both(kind, of.floats(a), of.floats(b))

    return translate


def tanh(of: Translation, node: Node) -> MilValue:
    x = of.floats(node.args[0])
    return of.to.emit("tanh", {"x": x}, "float32", x.shape)


def unflatten(of: Translation, node: Node) -> MilValue:
    tensor, axis, sizes = arguments(node)
    x = of.value(tensor)
    axis %= len(x.shape)
    known = -int(np.prod(sizes))  # one of the sizes is -1
    sizes = [x.shape[axis] // known if size == -1 else size for size in sizes]
    return of.to.reshape(x, (*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))


def flatten(of: Translation, node: Node) -> MilValue:
    """Join the axes from one to the last."""
    tensor, start = arguments(node)
    x = of.value(tensor)
    return of.to.reshape(x, (*x.shape[:start], int(np.prod(x.shape[start:]))))


def split(of: Translation, node: Node) -> Any:
    tensor, size, axis = arguments(node)
    x = of.value(tensor)
    count = x.shape[axis] // size
    return (x,) if count == 1 else tuple(of.to.split(x, [size] * count, axis))


def index_select(of: Translation, node: Node) -> MilValue:
    """Choose the kept one of S tokens; all tables of indices are that."""
    x, axis = of.value(arguments(node)[0]), arguments(node)[1]
    return x if of.ends.kept is None else of.to.gather(x, of.ends.kept, axis)


def getitem(of: Translation, node: Node) -> Any:
    several, index = arguments(node)
    return of.values[several][index]


TRANSLATIONS: dict[Any, Callable[[Translation, Node], Any]] = {
    operator.getitem: getitem,
    ops.linear.overload: linear,
    ops.fake_quantize.overload: fake_quantize,
    ops.rms_norm.overload: rms_norm,
    ops.gelu_tanh.overload: gelu_tanh,
    ops.attend.overload: attend,
    ops.store_kv.overload: store_kv,
    ops.attend_cached.overload: attend_cached,
    aten.add.Tensor: binary("add"),
    aten.mul.Tensor: binary("mul"),
    aten.tanh.default: tanh,
    aten.unflatten.int: unflatten,
    aten.flatten.using_ints: flatten,
    aten.split.Tensor: split,
    aten.index_select.default: index_select,
}
