"""Attention as ONNX nodes: GroupQueryAttention, with the head norms before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.fx import Node

from ..model.arrays import Array, Floats
from ..model.operands import Attend, AttendCached, StoreKV, arguments
from .builder import MICROSOFT, Lowering
from .caches import CacheScales, floats, new_rows, reads_floats, store, total

Projection = tuple[str, float]  # q, k or v: a value, and the scale that it is yet to be rounded with; 0: none


@dataclass(frozen=True)
class HeadSizes:
    """The sizes of one layer's attention; `window` 0 sees all."""

    heads: int
    kv_heads: int
    dim: int
    scale: float
    window: int

    @classmethod
    def of(cls, operands: Attend | AttendCached, cached: Node) -> HeadSizes:
        """Read from the queries (1, S, H·D) and keys (1, K, T, D)."""
        kv_heads, dim = cache_sizes(cached)
        return cls(int(operands.q.meta["val"].shape[2]) // dim, kv_heads, dim, operands.scale, operands.window)

    @property
    def kind(self) -> str:
        return "sliding" if self.window else "full"


def attend(to: Lowering, node: Node) -> None:
    operands = Attend.of(node)
    caches = attention_scales(to, operands.k_scale, operands.v_scale)
    sizes = HeadSizes.of(operands, operands.past_key)
    qkv = queries_keys_values(to, node.name, operands, sizes, caches)
    outputs = take_outputs(to, node, 3)
    rotary = rotary_inputs(to, operands)
    pasts = [to.value(operands.past_key), to.value(operands.past_value)]
    if caches:
        attend_rounded(to, qkv, pasts, outputs, rotary, caches, sizes)
    else:
        query_attention(to, [*qkv, *pasts], outputs, rotary, None, sizes)


def queries_keys_values(
    to: Lowering, name: str, operands: Attend, sizes: HeadSizes, caches: CacheScales | None
) -> list[str]:
    """Normed heads as GroupQueryAttention takes them: of one matmul where q, k and v are alike."""
    nodes = [operands.q, operands.k, operands.v]
    if not to.alike(nodes):
        return normed_heads(to, name, operands, [projection(to, node) for node in nodes], sizes, caches)
    if operands.value_norm:
        return packed_heads(to, name, operands, sizes, caches)
    scales = to.fuse(nodes, f"{name}.qkv")
    projections = list(zip(split_qkv(to, f"{name}.qkv", sizes), scales, strict=True))
    return normed_heads(to, name, operands, projections, sizes, caches)


def rotary_inputs(to: Lowering, operands: Attend | StoreKV | AttendCached) -> list[str]:
    """Names of positions, cos and sin."""
    return [to.value(node) for node in (operands.positions, operands.cos, operands.sin)]


def attend_rounded(
    to: Lowering,
    qkv: list[str],
    pasts: list[str],
    outputs: list[str],
    rotary: list[str],
    caches: CacheScales,
    sizes: HeadSizes,
) -> None:
    """Attend over int8 caches.

    A call of many tokens reads them as floats: the int8 kernel rereads them for each query.
    """
    out = outputs[0]
    rows, used = new_rows(to, sizes.kind, sizes.kv_heads), total(to, sizes.kind)

    def as_floats() -> list[str]:
        q, *new = qkv if qkv[1] else split_qkv(to, qkv[0], sizes)
        presents = [f"{out}.stored.{part}" for part in ("key", "value")]
        store(to, new, pasts, presents, rotary, caches, rows, (sizes.kv_heads, sizes.dim))
        widened = [
            floats(to, present, used, caches, scale) for present, scale in zip(presents, caches.names, strict=True)
        ]
        answer = [f"{out}.floats", *(f"{out}.floats.{part}" for part in ("key", "value"))]
        query_attention(to, [q, *no_more(to, sizes), *widened], answer, rotary, None, sizes)
        return [answer[0], *presents]

    def as_integers() -> list[str]:
        answer = [f"{out}.integers", *(f"{out}.integers.{part}" for part in ("key", "value"))]
        query_attention(to, [*qkv, *pasts], answer, rotary, caches, sizes)
        return answer

    to.choose(reads_floats(to, sizes.kind), outputs, as_floats, as_integers)


def projection(to: Lowering, node: Node) -> Projection:
    rounding = to.rounding(node)
    return (to.value(rounding.input), rounding.scale) if rounding else (to.value(node), 0.0)


def split_qkv(to: Lowering, qkv: str, sizes: HeadSizes) -> list[str]:
    parts = [f"{qkv}.{part}" for part in "qkv"]
    widths = np.array([sizes.heads, sizes.kv_heads, sizes.kv_heads], np.int64) * sizes.dim
    to.emit("Split", [qkv, to.constant(widths)], parts, axis=-1)
    return parts


def take_outputs(to: Lowering, node: Node, count: int) -> list[str]:
    """Give the names of a node's outputs, in order; their nodes are emitted with it."""
    outputs = {arguments(user)[1]: user for user in node.users}
    to.take(outputs.values())
    return [to.name(outputs[index]) for index in range(count)]


def cache_sizes(cached: Node) -> tuple[int, int]:
    """Heads of keys, and the size of one."""
    _, kv_heads, _, dim = cached.meta["val"].shape
    return int(kv_heads), int(dim)


def packed_heads(to: Lowering, out: str, operands: Attend, sizes: HeadSizes, caches: CacheScales | None) -> list[str]:
    """q, k and v as one tensor through one norm: V's gain is one."""
    dim, count = sizes.dim, sizes.heads + 2 * sizes.kv_heads
    gains: list[Array] = [
        np.tile(query_gain(to.gain(operands.q_gain), caches), (sizes.heads, 1)),
        np.tile(key_gain(to.gain(operands.k_gain), caches), (sizes.kv_heads, 1)),
        np.ones((sizes.kv_heads, dim), np.float32),
    ]
    gain = to.stored(f"{out}.gain", (count, dim), gains)
    scales = to.fuse([operands.q, operands.k, operands.v], f"{out}.qkv")
    heads = to.reshape(f"{out}.qkv", [1, -1, count, dim], f"{out}.heads")
    if all(scales):
        heads = to.fake_quantize_heads(heads, of_heads(scales, sizes), f"{out}.rounded")
    ones = to.constant(np.ones(dim, np.float32))
    to.emit("SimplifiedLayerNormalization", [heads, ones], f"{out}.unit", axis=-1, epsilon=operands.eps, stash_type=1)
    to.emit("Mul", [f"{out}.unit", gain], f"{out}.normed")
    return [to.reshape(f"{out}.normed", [1, -1, count * dim], f"{out}.packed"), "", ""]


def of_heads(scales: Sequence[float], sizes: HeadSizes) -> list[float]:
    """Scales of q, k and v to those of their heads, one after another."""
    counts = (sizes.heads, sizes.kv_heads, sizes.kv_heads)
    return [scale for scale, count in zip(scales, counts, strict=True) for _ in range(count)]


def normed_heads(
    to: Lowering,
    out: str,
    operands: Attend,
    projections: Sequence[Projection],
    sizes: HeadSizes,
    caches: CacheScales | None,
) -> list[str]:
    q, k, v = projections
    eps, kv_heads = operands.eps, sizes.kv_heads
    query = head_norm(to, q, query_gain(to.gain(operands.q_gain), caches), sizes.heads, f"{out}.q", eps)
    key = head_norm(to, k, key_gain(to.gain(operands.k_gain), caches), kv_heads, f"{out}.k", eps)
    return [query, key, value_heads(to, v, (kv_heads, sizes.dim), f"{out}.v", operands.value_norm, eps)]


def value_heads(to: Lowering, values: Projection, shape: tuple[int, int], out: str, normed: bool, eps: float) -> str:
    """Values (1, S, K·D) of K heads of D, which in Gemma 4 pass a norm without gain."""
    if normed:
        return head_norm(to, values, np.ones(shape[1], np.float32), shape[0], out, eps)
    x, scale = values
    return to.fake_quantize(x, scale, f"{out}.rounded") if scale else x


def head_norm(to: Lowering, projected: Projection, gain: Floats, heads: int, out: str, eps: float) -> str:
    """Heads (1, S, N·D), rounded if they have a scale, and normed."""
    single, dim, (x, scale) = heads == 1, len(gain), projected
    x = x if single else to.reshape(x, [1, -1, heads, dim], f"{out}.heads")
    if scale and single:
        x = to.fake_quantize(x, scale, f"{out}.rounded")
    elif scale:
        x = to.fake_quantize_heads(x, [scale] * heads, f"{out}.rounded")
    inputs = [x, to.constant(gain)]
    to.emit("SimplifiedLayerNormalization", inputs, f"{out}.normed", axis=-1, epsilon=eps, stash_type=1)
    if single:
        return f"{out}.normed"
    return to.reshape(f"{out}.normed", [1, -1, heads * dim], f"{out}.flat")


def store_kv(to: Lowering, node: Node) -> None:
    operands = StoreKV.of(node)
    kind = to.config.layers[operands.layer].kind
    kv_heads, dim = cache_sizes(operands.past_key)
    k, v = keys_values(to, node.name, operands)
    caches = attention_scales(to, operands.k_scale, operands.v_scale)
    new = [
        head_norm(to, k, key_gain(to.gain(operands.k_gain), caches), kv_heads, f"{node.name}.k", operands.eps),
        value_heads(to, v, (kv_heads, dim), f"{node.name}.v", operands.value_norm, operands.eps),
    ]
    pasts = [to.value(operands.past_key), to.value(operands.past_value)]
    outputs, rotary = take_outputs(to, node, 2), rotary_inputs(to, operands)
    store(to, new, pasts, outputs, rotary, caches, new_rows(to, kind, kv_heads), (kv_heads, dim))


def keys_values(to: Lowering, name: str, operands: StoreKV) -> list[Projection]:
    nodes = [operands.k, operands.v]
    if not to.alike(nodes):
        return [projection(to, node) for node in nodes]
    scales, parts = to.fuse(nodes, f"{name}.kv"), [f"{name}.{part}" for part in "kv"]
    to.emit("Split", [f"{name}.kv"], parts, axis=-1, num_outputs=2)
    return list(zip(parts, scales, strict=True))


def attend_cached(to: Lowering, node: Node) -> None:
    operands = AttendCached.of(node)
    caches = attention_scales(to, operands.k_scale, operands.v_scale)
    sizes = HeadSizes.of(operands, operands.key)
    gain = query_gain(to.gain(operands.q_gain), caches)
    query = head_norm(to, projection(to, operands.q), gain, sizes.heads, f"{node.name}.q", operands.eps)
    # Without presents onnxruntime 1.29 and 1.30 crash; bound to the source's arrays they cost nothing.
    stores = to.config.layers[operands.layer].owns_kv  # then `present` is what it stores
    presents = [f"{'kept' if stores else 'present'}.{operands.layer}.{part}" for part in ("key", "value")]
    to.publish(presents)
    cached = [to.value(operands.key), to.value(operands.value)]
    inputs, outputs = [query, *no_more(to, sizes), *cached], [to.name(node), *presents]
    query_attention(to, inputs, outputs, rotary_inputs(to, operands), caches, sizes)


def no_more(to: Lowering, sizes: HeadSizes) -> list[str]:
    """New keys and values, where all are in the caches already."""
    return [to.constant(np.zeros((1, 0, sizes.kv_heads * sizes.dim), np.float32))] * 2


def query_attention(
    to: Lowering,
    qkv_past: list[str],
    outputs: list[str],
    rotary: list[str],
    caches: CacheScales | None,
    sizes: HeadSizes,
) -> None:
    positions, cos, sin = rotary
    inputs = [*qkv_past, f"{sizes.kind}.last", f"{sizes.kind}.total", cos, sin, positions]
    attributes: dict[str, Any] = {"local_window_size": sizes.window} if sizes.window else {}
    if caches:
        inputs += ["", "", *caches.names]  # no attention_bias, no head_sink
        attributes |= {"k_quant_type": caches.kind, "v_quant_type": caches.kind, "kv_cache_bit_width": 8}
    to.emit(
        "GroupQueryAttention", inputs, outputs, MICROSOFT,
        num_heads=sizes.heads, kv_num_heads=sizes.kv_heads, scale=sizes.scale, do_rotary=1, **attributes,
    )  # fmt: skip


def attention_scales(to: Lowering, k_scale: Node | None, v_scale: Node | None) -> CacheScales | None:
    """The scales of int8 caches; None for float caches.

    One scale serves all values and one all keys, if what is left of the keys' fits the gains of their norms.  A gain
    serves all heads, and both channels that a rotation mixes.
    """
    if k_scale is None or v_scale is None:
        return None
    keys, values = (to.weights.floats(to.parameter(node)) for node in (k_scale, v_scale))  # (1, K, 1, D)
    first, second = np.split(keys, 2, -1)
    if (values != values.flat[0]).any() or (first != second).any() or (keys != keys[:, :1]).any():
        names = [to.vector(node) for node in (k_scale, v_scale)]
        return CacheScales("PER_CHANNEL", names, np.ones(keys.shape[-1], np.float32))
    names = [tensor_scale(to, k_scale, keys.max()), tensor_scale(to, v_scale, values.max())]
    return CacheScales("PER_TENSOR", names, keys[0, 0, 0] / keys.max())


def tensor_scale(to: Lowering, scales: Node, value: np.float32) -> str:
    """The name of a scale for a whole cache, in place of its scales by channel."""
    return to.stored_once(to.parameter(scales), np.array([value], np.float32))


def query_gain(gain: Floats, caches: CacheScales | None) -> Floats:
    return gain * caches.of_keys if caches else gain


def key_gain(gain: Floats, caches: CacheScales | None) -> Floats:
    return gain / caches.of_keys if caches else gain
