"""Attention as ONNX nodes: GroupQueryAttention, with the head norms before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.fx import Node

from .onnx_lowering import MICROSOFT, Lowering, arguments


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
        kinds, names = zip(*(cache_scale(to, one) for one in scales), strict=True)
        inputs += ["", "", *names]  # no attention_bias, no head_sink
        attributes |= {"k_quant_type": kinds[0], "v_quant_type": kinds[1], "kv_cache_bit_width": 8}
    to.emit(
        "GroupQueryAttention", inputs, outputs, MICROSOFT,
        num_heads=heads, kv_num_heads=kv_heads, scale=scale, do_rotary=1, **attributes,
    )  # fmt: skip


def cache_scale(to: Lowering, node: Node) -> tuple[str, str]:
    """Kind and name of the scales of keys or values: one for all channels where they are equal, a sixth faster."""
    parameter = to.names[node]
    values = to.weights.floats(parameter).ravel()
    if (values != values[0]).any():
        return "PER_CHANNEL", to.vector(node)
    if parameter not in to.consumed:
        to.data.add(parameter, (1,), np.float32, [values[:1]])
        to.consumed[parameter] = 1
    return "PER_TENSOR", parameter
