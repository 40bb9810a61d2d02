"""Attention as ONNX nodes: GroupQueryAttention, with the head norms before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.fx import Node

from .onnx_lowering import MICROSOFT, Lowering, arguments

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class CacheScales:
    """Scales of int8 caches as GroupQueryAttention takes them.

    kind: "PER_TENSOR", a quarter faster, or "PER_CHANNEL"; the operator wants the same of keys and values
    names: of the scales of keys and of values
    of_keys: (D,) what keys are divided by and queries multiplied by, in the gains of their norms
    """

    kind: str
    names: list[str]
    of_keys: Floats


def attend(to: Lowering, node: Node) -> None:
    q, k, v, _, _, positions, cos, sin, past_key, past_value, scale, window, value_norm, _, *scales = arguments(node)
    out, shape = node.name, past_key.meta["val"].shape
    kv_heads, dim = int(shape[1]), int(shape[3])
    heads = int(q.meta["val"].shape[2]) // dim
    caches = attention_scales(to, scales)
    packed = to.alike(arguments(node)[:3])
    if packed and value_norm:
        qkv = packed_heads(to, node, heads, kv_heads, dim, caches)
    elif packed:
        parts = [f"{out}.{part}" for part in "qkv"]
        sizes = to.constant(np.array([heads * dim, kv_heads * dim, kv_heads * dim], np.int64))
        to.emit("Split", [to.fuse([q, k, v], f"{out}.qkv"), sizes], parts, axis=-1)
        qkv = normed_heads(to, node, parts, heads, kv_heads, dim, caches)
    else:
        qkv = normed_heads(to, node, [to.value(q), to.value(k), to.value(v)], heads, kv_heads, dim, caches)
    ends = {arguments(user)[1]: user for user in node.users}
    to.emitted.update(ends.values())
    outputs = [to.name(ends[index]) for index in range(3)]
    query_attention(
        to,
        [*qkv, to.value(past_key), to.value(past_value)],
        outputs,
        (positions, cos, sin),
        caches,
        (heads, kv_heads, scale, window),
    )


def packed_heads(
    to: Lowering, node: Node, heads: int, kv_heads: int, dim: int, caches: CacheScales | None
) -> list[str]:
    """q, k and v as one tensor through one norm: V's gain is one."""
    q, k, v, q_gain, k_gain = arguments(node)[:5]
    out, eps, count = node.name, arguments(node)[13], heads + 2 * kv_heads
    gains: list[NDArray[Any]] = [
        np.tile(query_gain(to.gain(q_gain), caches), (heads, 1)),
        np.tile(key_gain(to.gain(k_gain), caches), (kv_heads, 1)),
        np.ones((kv_heads, dim), np.float32),
    ]
    gain = to.data.add(f"{out}.gain", (count, dim), np.float32, gains)
    to.reshape(to.fuse([q, k, v], f"{out}.qkv"), [1, -1, count, dim], f"{out}.heads")
    ones = to.constant(np.ones(dim, np.float32))
    to.emit("SimplifiedLayerNormalization", [f"{out}.heads", ones], f"{out}.unit", axis=-1, epsilon=eps, stash_type=1)
    to.emit("Mul", [f"{out}.unit", gain], f"{out}.normed")
    return [to.reshape(f"{out}.normed", [1, -1, count * dim], f"{out}.packed"), "", ""]


def normed_heads(
    to: Lowering, node: Node, parts: Sequence[str], heads: int, kv_heads: int, dim: int, caches: CacheScales | None
) -> list[str]:
    q_gain, k_gain, value_norm, eps = (arguments(node)[i] for i in (3, 4, 12, 13))
    query = head_norm(to, parts[0], query_gain(to.gain(q_gain), caches), heads, f"{node.name}.q", eps)
    key = head_norm(to, parts[1], key_gain(to.gain(k_gain), caches), kv_heads, f"{node.name}.k", eps)
    if not value_norm:
        return [query, key, parts[2]]
    return [query, key, head_norm(to, parts[2], np.ones(dim, np.float32), kv_heads, f"{node.name}.v", eps)]


def head_norm(to: Lowering, x: str, gain: Floats, heads: int, out: str, eps: Any) -> str:
    one, dim = heads == 1, len(gain)
    x = x if one else to.reshape(x, [1, -1, heads, dim], f"{out}.heads")
    inputs = [x, to.constant(gain)]
    to.emit("SimplifiedLayerNormalization", inputs, f"{out}.normed", axis=-1, epsilon=eps, stash_type=1)
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
    caches = attention_scales(to, scales)
    key = head_norm(to, parts[0], key_gain(to.gain(gain), caches), kv_heads, f"{node.name}.k", eps)
    value = parts[1]
    if value_norm:
        value = head_norm(to, value, np.ones(dim, np.float32), kv_heads, f"{node.name}.v", eps)
    ends = {arguments(user)[1]: user for user in node.users}
    to.emitted.update(ends.values())
    query_attention(
        to,
        [key, key, value, to.value(past_key), to.value(past_value)],
        [f"{node.name}.unread", *(to.name(ends[index]) for index in range(2))],
        (positions, cos, sin),
        caches,
        (kv_heads, kv_heads, 1.0, to.config.window if layer.kind == "sliding" else 0),
    )


def attend_shared(to: Lowering, node: Node) -> None:
    q, q_gain, positions, cos, sin, key, value, scale, window, eps, *scales = arguments(node)
    shape = key.meta["val"].shape
    kv_heads, dim = int(shape[1]), int(shape[3])
    heads = int(q.meta["val"].shape[2]) // dim
    caches = attention_scales(to, scales)
    query = head_norm(to, to.value(q), query_gain(to.gain(q_gain), caches), heads, f"{node.name}.q", eps)
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
        caches,
        (heads, kv_heads, scale, window),
    )


def query_attention(
    to: Lowering,
    qkv_past: list[str],
    outputs: list[str],
    rotary: tuple[Any, Any, Any],
    caches: CacheScales | None,
    shape: tuple[Any, ...],
) -> None:
    positions, cos, sin = rotary
    heads, kv_heads, scale, window = shape
    kind = "sliding" if window else "full"
    inputs = [*qkv_past, f"{kind}.last", f"{kind}.total", to.value(cos), to.value(sin), to.value(positions)]
    attributes: dict[str, Any] = {"local_window_size": window} if window else {}
    if caches:
        inputs += ["", "", *caches.names]  # no attention_bias, no head_sink
        attributes |= {"k_quant_type": caches.kind, "v_quant_type": caches.kind, "kv_cache_bit_width": 8}
    to.emit(
        "GroupQueryAttention", inputs, outputs, MICROSOFT,
        num_heads=heads, kv_num_heads=kv_heads, scale=scale, do_rotary=1, **attributes,
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
