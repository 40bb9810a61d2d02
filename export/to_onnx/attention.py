"""Attention as ONNX nodes: GroupQueryAttention, with the head norms before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.fx import Node

from ..model.arrays import Array, Floats
from .builder import MICROSOFT, Lowering, arguments, ops
from .caches import CacheScales, floats, new_rows, reads_floats, store, total


@dataclass(frozen=True)
class HeadSizes:
    """Of one layer's attention; `window` 0 sees all."""

    heads: int
    kv_heads: int
    dim: int
    scale: float
    window: int

    @property
    def kind(self) -> str:
        return "sliding" if self.window else "full"


def attend(to: Lowering, node: Node) -> None:
    q, k, v, _, _, *rotary, past_key, past_value, scale, window, value_norm, _, _, _ = arguments(node)
    caches = attention_scales(to, arguments(node)[-2:])
    kv_heads, dim = cache_sizes(past_key)
    shape = HeadSizes(int(q.meta["val"].shape[2]) // dim, kv_heads, dim, scale, window)
    if to.alike([q, k, v]) and value_norm:
        qkv = packed_heads(to, node, shape, caches)
    elif to.alike([q, k, v]):
        qkv = normed_heads(to, node, fused_parts(to, [q, k, v], f"{node.name}.qkv", shape), shape, caches)
    else:
        qkv = normed_heads(to, node, [part(to, one) for one in (q, k, v)], shape, caches)
    outputs = take_outputs(to, node, 3)
    places = [to.value(one) for one in rotary]
    pasts = [to.value(past_key), to.value(past_value)]
    if caches:
        attend_rounded(to, qkv, pasts, outputs, places, caches, shape)
    else:
        query_attention(to, [*qkv, *pasts], outputs, places, None, shape)


def attend_rounded(
    to: Lowering,
    qkv: list[str],
    pasts: list[str],
    outputs: list[str],
    rotary: list[str],
    caches: CacheScales,
    shape: HeadSizes,
) -> None:
    """Over int8 caches, which a call of many tokens reads as floats: the int8 kernel rereads them for each query."""
    out = outputs[0]
    rows, used = new_rows(to, shape.kind, shape.kv_heads), total(to, shape.kind)

    def as_floats() -> list[str]:
        q, *new = qkv if qkv[1] else split_qkv(to, qkv[0], shape)
        presents = [f"{out}.stored.{part}" for part in ("key", "value")]
        store(to, new, pasts, presents, rotary, caches, rows, (shape.kv_heads, shape.dim))
        read = [floats(to, one, used, caches, name) for one, name in zip(presents, caches.names, strict=True)]
        answer = [f"{out}.floats", *(f"{out}.floats.{part}" for part in ("key", "value"))]
        query_attention(to, [q, *no_more(to, shape), *read], answer, rotary, None, shape)
        return [answer[0], *presents]

    def as_integers() -> list[str]:
        answer = [f"{out}.integers", *(f"{out}.integers.{part}" for part in ("key", "value"))]
        query_attention(to, [*qkv, *pasts], answer, rotary, caches, shape)
        return answer

    to.choose(reads_floats(to, shape.kind), outputs, as_floats, as_integers)


Projection = tuple[str, float]  # q, k or v: a value, and the scale that it is yet to be rounded with; 0: none


def part(to: Lowering, node: Node) -> Projection:
    if node.target is not ops.fake_quantize.default:
        return to.value(node), 0.0
    x, scale = arguments(node)
    return to.value(x), scale


def fused_parts(to: Lowering, qkv: Sequence[Node], out: str, shape: HeadSizes) -> list[Projection]:
    """q, k and v of one matmul."""
    scales = to.fuse(qkv, out)
    return list(zip(split_qkv(to, out, shape), scales, strict=True))


def split_qkv(to: Lowering, qkv: str, shape: HeadSizes) -> list[str]:
    parts = [f"{qkv}.{part}" for part in "qkv"]
    sizes = np.array([shape.heads, shape.kv_heads, shape.kv_heads], np.int64) * shape.dim
    to.emit("Split", [qkv, to.constant(sizes)], parts, axis=-1)
    return parts


def take_outputs(to: Lowering, node: Node, count: int) -> list[str]:
    """The names of a node's outputs, in order."""
    ends = {arguments(user)[1]: user for user in node.users}
    to.emitted.update(ends.values())
    return [to.name(ends[index]) for index in range(count)]


def cache_sizes(past: Node) -> tuple[int, int]:
    """Heads of keys, and the size of one."""
    _, kv_heads, _, dim = past.meta["val"].shape
    return int(kv_heads), int(dim)


def packed_heads(to: Lowering, node: Node, shape: HeadSizes, caches: CacheScales | None) -> list[str]:
    """q, k and v as one tensor through one norm: V's gain is one."""
    q, k, v, q_gain, k_gain = arguments(node)[:5]
    out, eps, dim, count = node.name, arguments(node)[13], shape.dim, shape.heads + 2 * shape.kv_heads
    gains: list[Array] = [
        np.tile(query_gain(to.gain(q_gain), caches), (shape.heads, 1)),
        np.tile(key_gain(to.gain(k_gain), caches), (shape.kv_heads, 1)),
        np.ones((shape.kv_heads, dim), np.float32),
    ]
    gain = to.data.add(f"{out}.gain", (count, dim), np.float32, gains)
    scales = to.fuse([q, k, v], f"{out}.qkv")
    heads = to.reshape(f"{out}.qkv", [1, -1, count, dim], f"{out}.heads")
    if all(scales):
        heads = to.fake_quantize_heads(heads, of_heads(scales, shape), f"{out}.rounded")
    ones = to.constant(np.ones(dim, np.float32))
    to.emit("SimplifiedLayerNormalization", [heads, ones], f"{out}.unit", axis=-1, epsilon=eps, stash_type=1)
    to.emit("Mul", [f"{out}.unit", gain], f"{out}.normed")
    return [to.reshape(f"{out}.normed", [1, -1, count * dim], f"{out}.packed"), "", ""]


def of_heads(scales: Sequence[float], shape: HeadSizes) -> list[float]:
    """Scales of q, k and v to those of their heads, one after another."""
    counts = (shape.heads, shape.kv_heads, shape.kv_heads)
    return [scale for scale, count in zip(scales, counts, strict=True) for _ in range(count)]


def normed_heads(
    to: Lowering, node: Node, parts: Sequence[Projection], shape: HeadSizes, caches: CacheScales | None
) -> list[str]:
    q_gain, k_gain, value_norm, eps = (arguments(node)[i] for i in (3, 4, 12, 13))
    query = head_norm(to, parts[0], query_gain(to.gain(q_gain), caches), shape.heads, f"{node.name}.q", eps)
    key = head_norm(to, parts[1], key_gain(to.gain(k_gain), caches), shape.kv_heads, f"{node.name}.k", eps)
    return [query, key, value_heads(to, parts[2], (shape.kv_heads, shape.dim), f"{node.name}.v", value_norm, eps)]


def value_heads(to: Lowering, part: Projection, shape: tuple[int, int], out: str, normed: bool, eps: Any) -> str:
    """Values (1, S, K·D) of K heads of D, which in Gemma 4 pass a norm without gain."""
    if normed:
        return head_norm(to, part, np.ones(shape[1], np.float32), shape[0], out, eps)
    x, scale = part
    return to.fake_quantize(x, scale, f"{out}.rounded") if scale else x


def head_norm(to: Lowering, part: Projection, gain: Floats, heads: int, out: str, eps: Any) -> str:
    """Heads (1, S, N·D), rounded if they have a scale, and normed."""
    one, dim, (x, scale) = heads == 1, len(gain), part
    x = x if one else to.reshape(x, [1, -1, heads, dim], f"{out}.heads")
    if scale and one:
        x = to.fake_quantize(x, scale, f"{out}.rounded")
    elif scale:
        x = to.fake_quantize_heads(x, [scale] * heads, f"{out}.rounded")
    inputs = [x, to.constant(gain)]
    to.emit("SimplifiedLayerNormalization", inputs, f"{out}.normed", axis=-1, epsilon=eps, stash_type=1)
    if one:
        return f"{out}.normed"
    return to.reshape(f"{out}.normed", [1, -1, heads * dim], f"{out}.flat")


def remember(to: Lowering, node: Node) -> None:
    k, v, gain, *rotary, past_key, past_value, value_norm, eps, _, _ = arguments(node)
    kind = to.config.layers[to.config.own_kv_layers - 1].kind
    kv_heads, dim = cache_sizes(past_key)
    if to.alike([k, v]):
        scales, names = to.fuse([k, v], f"{node.name}.kv"), [f"{node.name}.{one}" for one in "kv"]
        to.emit("Split", [f"{node.name}.kv"], names, axis=-1, num_outputs=2)
        parts = list(zip(names, scales, strict=True))
    else:
        parts = [part(to, one) for one in (k, v)]
    caches = attention_scales(to, arguments(node)[-2:])
    new = [
        head_norm(to, parts[0], key_gain(to.gain(gain), caches), kv_heads, f"{node.name}.k", eps),
        value_heads(to, parts[1], (kv_heads, dim), f"{node.name}.v", value_norm, eps),
    ]
    store(
        to, new, [to.value(past_key), to.value(past_value)], take_outputs(to, node, 2),
        [to.value(one) for one in rotary], caches, new_rows(to, kind, kv_heads), (kv_heads, dim),
    )  # fmt: skip


def attend_shared(to: Lowering, node: Node) -> None:
    q, q_gain, *rotary, key, value, scale, window, eps, _, _ = arguments(node)
    caches = attention_scales(to, arguments(node)[-2:])
    kv_heads, dim = cache_sizes(key)
    shape = HeadSizes(int(q.meta["val"].shape[2]) // dim, kv_heads, dim, scale, window)
    query = head_norm(to, part(to, q), query_gain(to.gain(q_gain), caches), shape.heads, f"{node.name}.q", eps)
    # Without presents onnxruntime 1.29 and 1.30 crash; bound to the source's arrays they cost nothing.
    index = next(to.askers)
    when = "kept" if to.config.layers[index].owns_kv else "present"  # its present is the one it remembers with
    presents = [f"{when}.{index}.{part}" for part in ("key", "value")]
    to.outputs += presents
    query_attention(
        to,
        [query, *no_more(to, shape), to.value(key), to.value(value)],
        [to.name(node), *presents],
        [to.value(one) for one in rotary],
        caches,
        shape,
    )


def no_more(to: Lowering, shape: HeadSizes) -> list[str]:
    """New keys and values, where all are in the caches already."""
    return [to.constant(np.zeros((1, 0, shape.kv_heads * shape.dim), np.float32))] * 2


def query_attention(
    to: Lowering,
    qkv_past: list[str],
    outputs: list[str],
    rotary: list[str],
    caches: CacheScales | None,
    shape: HeadSizes,
) -> None:
    positions, cos, sin = rotary
    inputs = [*qkv_past, f"{shape.kind}.last", f"{shape.kind}.total", cos, sin, positions]
    attributes: dict[str, Any] = {"local_window_size": shape.window} if shape.window else {}
    if caches:
        inputs += ["", "", *caches.names]  # no attention_bias, no head_sink
        attributes |= {"k_quant_type": caches.kind, "v_quant_type": caches.kind, "kv_cache_bit_width": 8}
    to.emit(
        "GroupQueryAttention", inputs, outputs, MICROSOFT,
        num_heads=shape.heads, kv_num_heads=shape.kv_heads, scale=shape.scale, do_rotary=1, **attributes,
    )  # fmt: skip


def attention_scales(to: Lowering, scales: Sequence[Any]) -> CacheScales | None:
    """One scale for all values and one for all keys, if what is left of the keys' fits the gains of their norms.

    A gain serves all heads, and both channels that a rotation mixes.
    """
    if scales[0] is None:
        return None
    keys, values = (to.weights.floats(to.names[one]) for one in scales)  # (1, K, 1, D)
    first, second = np.split(keys, 2, -1)
    if (values != values.flat[0]).any() or (first != second).any() or (keys != keys[:, :1]).any():
        return CacheScales("PER_CHANNEL", [to.vector(one) for one in scales], np.ones(keys.shape[-1], np.float32))
    names = [one_scale(to, one, found.max()) for one, found in zip(scales, (keys, values), strict=True)]
    return CacheScales("PER_TENSOR", names, keys[0, 0, 0] / keys.max())


def one_scale(to: Lowering, scales: Node, value: np.float32) -> str:
    parameter = to.names[scales]
    if parameter not in to.consumed:
        to.data.add(parameter, (1,), np.float32, [np.array([value], np.float32)])
        to.consumed[parameter] = 1
    return parameter


def query_gain(gain: Floats, caches: CacheScales | None) -> Floats:
    return gain * caches.of_keys if caches else gain


def key_gain(gain: Floats, caches: CacheScales | None) -> Floats:
    return gain / caches.of_keys if caches else gain
