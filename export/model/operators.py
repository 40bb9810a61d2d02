"""The few operators a Gemma is made of, as torch custom operators.

The bodies are their definition, and run the float reference.  A captured graph holds them whole, so
that each backend lowers `attend` or `linear` to the best it has, and none sees Gemma's anatomy.
Shapes: S tokens, T keys, H heads, K key heads, D head dim.  The batch is 1 in a graph; the bodies also take
several sequences at the same positions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Protocol, cast

import torch
from torch import Tensor

FEW_VECTORS = 512  # vectors
ROWS_AT_ONCE = 1024  # of a matrix at a time
WIDENED = 4 << 20  # bytes of rows in another dtype at a time: they stay in the processor's cache

Body = Callable[..., Any]


class Operator(Protocol):
    overload: Body  # the target of its nodes in a captured graph

    def __call__(self, *arguments: Any) -> Any: ...
    def register_fake(self, body: Body) -> Body:
        """Say what the shapes of its results are."""
        ...


def operator(body: Body, name: str = "") -> Operator:
    """Make a custom operator of a body: it is one while a graph is captured, and the body itself otherwise.

    Dispatch costs more than a small tensor.  `name` is what its nodes are called, by default as the body.
    """
    name = name or body.__name__
    captured = torch.library.custom_op(f"gemma_edge::{name}", body, mutates_args=())

    @wraps(body)
    def call(*arguments: Any) -> Any:
        return (captured if torch.compiler.is_compiling() else body)(*arguments)

    call.register_fake = captured.register_fake  # type: ignore[attr-defined]
    call.overload = getattr(torch.ops.gemma_edge, name).default  # type: ignore[attr-defined]
    return cast(Operator, call)


@operator
def linear(x: Tensor, weight: Tensor) -> Tensor:
    """(…, inputs) @ (outputs, inputs)ᵀ to (…, outputs), in the dtype of x: a weight of another is widened by rows."""
    if weight.dtype == x.dtype and x.numel() // x.shape[-1] > FEW_VECTORS:
        return x @ weight.T
    columns = x.flatten(0, -2).T.contiguous()  # (inputs, n): for few, twice as fast on the processors measured
    out = x.new_empty(len(weight), columns.shape[1])
    step = (
        ROWS_AT_ONCE
        if weight.dtype == x.dtype
        else max(1, min(ROWS_AT_ONCE, WIDENED // (x.shape[-1] * x.element_size())))
    )
    for start in range(0, len(weight), step):
        torch.mm(weight[start : start + step].to(x.dtype), columns, out=out[start : start + step])
    return out.T.view(*x.shape[:-1], -1)


@linear.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


@operator
def fake_quantize(x: Tensor, scale: float) -> Tensor:
    """clamp(rint(x / scale), −128, 127) · scale, ties to even: what a static 8-bit range leaves of activations.

    As transformers' apply_srq (integrations/gemma_quant.py).  The scale is a float32 value.
    """
    step = torch.tensor(scale, dtype=x.dtype)  # a tensor: torch may turn a division by a number into a product
    return (x / step).round_().clamp_(-128, 127).mul_(step)


@fake_quantize.register_fake
def _(x: Tensor, scale: float) -> Tensor:
    return torch.empty_like(x)


@operator
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) · weight, over the last dimension."""
    return x * torch.pow(x.square().mean(-1, keepdim=True) + eps, -0.5) * weight


@rms_norm.register_fake
def _(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return torch.empty_like(x)


@operator
def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh form of GELU: an operator of ours, because some backends turn torch's own into the erf form."""
    return torch.nn.functional.gelu(x, approximate="tanh")


@gelu_tanh.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@operator
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_gain: Tensor,
    k_gain: Tensor,
    positions: Tensor,
    cos: Tensor,
    sin: Tensor,
    past_key: Tensor,
    past_value: Tensor,
    scale: float,
    window: int,
    value_norm: bool,
    eps: float,
    k_scale: Tensor | None,
    v_scale: Tensor | None,
    layer: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Head norms, rotary positions, append to the past, causal attention.

    q (1, S, H·D), k and v (1, S, K·D), gains (D,), positions (1, S), cos and sin (P, D/2),
    past (1, K, T, D) -> attention (1, S, H·D), present key and value (1, K, T + S, D).
    `window` 0 sees all; else key j is seen by query i if 0 ≤ i − j < window.
    With scales (1, K, 1, D) the caches are int8; here they hold what the integers stand for.
    `layer` is the number of the layer, which only backends ask for.
    """
    new = (k, v, k_gain, positions, cos, sin)
    key, value = appended(*new, past_key, past_value, value_norm, eps, k_scale, v_scale)
    query = rotate(head_norm(q, q_gain, eps), positions, cos, sin)
    return scores(query, key, value, positions, scale, window), key, value


@attend.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, q_gain: Tensor, k_gain: Tensor, positions: Tensor, cos: Tensor, sin: Tensor,
    past_key: Tensor, past_value: Tensor, scale: float, window: int, value_norm: bool, eps: float,
    k_scale: Tensor | None, v_scale: Tensor | None, layer: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    _, heads, past, dim = past_key.shape
    present = past_key.new_empty(1, heads, past + q.shape[1], dim)
    return torch.empty_like(q), present, torch.empty_like(present)


# Nodes of a graph are called after their operators, and values in an ONNX file after nodes.  The two below keep the
# names that bundles have.
@partial(operator, name="remember")
def store_kv(
    k: Tensor,
    v: Tensor,
    k_gain: Tensor,
    positions: Tensor,
    cos: Tensor,
    sin: Tensor,
    past_key: Tensor,
    past_value: Tensor,
    value_norm: bool,
    eps: float,
    k_scale: Tensor | None,
    v_scale: Tensor | None,
    layer: int,
) -> tuple[Tensor, Tensor]:
    """Give the present key and value, as `attend` does, without the attention."""
    return appended(k, v, k_gain, positions, cos, sin, past_key, past_value, value_norm, eps, k_scale, v_scale)


@store_kv.register_fake
def _(
    k: Tensor, v: Tensor, k_gain: Tensor, positions: Tensor, cos: Tensor, sin: Tensor, past_key: Tensor,
    past_value: Tensor, value_norm: bool, eps: float, k_scale: Tensor | None, v_scale: Tensor | None, layer: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    _, heads, past, dim = past_key.shape
    present = past_key.new_empty(1, heads, past + k.shape[1], dim)
    return present, torch.empty_like(present)


@partial(operator, name="attend_shared")
def attend_cached(
    q: Tensor,
    q_gain: Tensor,
    positions: Tensor,
    cos: Tensor,
    sin: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    window: int,
    eps: float,
    k_scale: Tensor | None,
    v_scale: Tensor | None,
    layer: int,
) -> Tensor:
    """Attend to present keys and values that another operator has stored; the queries are the last positions.

    `layer` is the number of the layer that asks.  The scales are those of the layer that stored, for a backend whose
    caches hold integers.
    """
    query = rotate(head_norm(q, q_gain, eps), positions, cos, sin)
    return scores(query, key, value, positions, scale, window)


@attend_cached.register_fake
def _(
    q: Tensor, q_gain: Tensor, positions: Tensor, cos: Tensor, sin: Tensor, key: Tensor, value: Tensor,
    scale: float, window: int, eps: float, k_scale: Tensor | None, v_scale: Tensor | None, layer: int,
) -> Tensor:  # fmt: skip
    return torch.empty_like(q)


def appended(
    k: Tensor, v: Tensor, k_gain: Tensor, positions: Tensor, cos: Tensor, sin: Tensor, past_key: Tensor,
    past_value: Tensor, value_norm: bool, eps: float, k_scale: Tensor | None, v_scale: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Keys, normed and rotated, and values behind those of the past."""
    key = rotate(head_norm(k, k_gain, eps), positions, cos, sin)
    value = split_heads(v, past_value.shape[-1])
    if value_norm:
        value = value * torch.pow(value.square().mean(-1, keepdim=True) + eps, -0.5)
    return torch.cat([past_key, rounded(key, k_scale)], 2), torch.cat([past_value, rounded(value, v_scale)], 2)


def split_heads(x: Tensor, dim: int) -> Tensor:
    """(1, S, N·D) to (1, N, S, D)."""
    return x.view(*x.shape[:-1], -1, dim).transpose(1, 2)


def head_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    heads = split_heads(x, gain.shape[0])
    return heads * torch.pow(heads.square().mean(-1, keepdim=True) + eps, -0.5) * gain


def rounded(x: Tensor, scale: Tensor | None) -> Tensor:
    """Round to the nearest value of an int8 cache (1, K, S, D), if it has a scale."""
    return x if scale is None else (x / scale).round().clamp(-128, 127) * scale


def rotate(x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions, first half paired with second half (NeoX).  x (1, N, S, D)."""
    c, s = cos[positions[0]], sin[positions[0]]  # (S, D/2)
    a, b = x.chunk(2, -1)
    return torch.cat([a * c - b * s, b * c + a * s], -1)


def scores(query: Tensor, key: Tensor, value: Tensor, positions: Tensor, scale: float, window: int) -> Tensor:
    """softmax(query · keyᵀ · scale) · value, keys at positions 0 to T − 1.  (1, H, S, D) to (1, S, H·D)."""
    batch, heads, steps, dim = query.shape
    distance = positions[0][:, None] - torch.arange(key.shape[2])[None]  # (S, T)
    seen = (distance >= 0) & (distance < window) if window else distance >= 0
    # The queries of a key head as more rows: keys and values are not repeated.
    grouped = query.reshape(batch, key.shape[1], -1, dim)  # (B, K, H/K·S, D)
    raw = (grouped @ key.transpose(-1, -2) * scale).view(batch, heads, steps, -1)
    weights = raw.masked_fill(~seen, float("-inf")).softmax(-1)
    mixed = weights.view(batch, key.shape[1], -1, key.shape[2]) @ value
    return mixed.view(batch, heads, steps, dim).transpose(1, 2).flatten(2)
