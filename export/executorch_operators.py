"""The operators of operators.py in forms that XNNPACK takes whole: static shapes, linears, matmuls, no gathers.

Caches hold keys as columns and values as rows, so that neither is transposed to be multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SQRT_2_OVER_PI = 0.7978845608028654


@dataclass(frozen=True)
class Place:
    """Of the tokens of a call, for one kind of layer.

    slots (S,): where their keys and values go; mask (S, T): 0 for a row that a token sees, else far below
    any score; cos, sin (S, D/2): rotary factors of their positions
    """

    slots: Tensor
    mask: Tensor
    cos: Tensor
    sin: Tensor


@dataclass(frozen=True)
class Cache:
    """key (K, D, T), value (K, T, D)."""

    key: Tensor
    value: Tensor


def gelu_tanh(x: Tensor) -> Tensor:
    """Written out: XNNPACK turns torch's own into the erf form."""
    return 0.5 * x * (1.0 + torch.tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)))


def unit(x: Tensor, ones: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps).  `ones` (1, D) of 1/D: XNNPACK does not take a mean over the last dimension."""
    return x * torch.rsqrt(F.linear(x * x, ones) + eps)


def split_heads(x: Tensor, dim: int) -> Tensor:
    """(1, S, N·D) to (N, S, D)."""
    steps = x.shape[1]
    if steps == 1:
        return x.view(-1, 1, dim)
    return x.view(steps, -1, dim).permute(1, 0, 2)


def rotate(x: Tensor, place: Place) -> Tensor:
    """First half paired with second half (NeoX).  x (N, S, D)."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * place.cos - b * place.sin, b * place.cos + a * place.sin], -1)


def keep(cache: Cache, key: Tensor, value: Tensor, place: Place) -> Cache:
    """Write key and value (K, S, D) into their slots, in place.

    By the operator itself: an assignment drops leading ones of what it writes, and ExecuTorch's kernel fails.
    """
    put = torch.ops.aten.index_put_.default
    put(cache.key, [None, None, place.slots], key.transpose(1, 2))
    put(cache.value, [None, place.slots], value)
    return cache


def attended(query: Tensor, cache: Cache, place: Place, scale: float) -> Tensor:
    """softmax(query · key · scale) · value over what the mask shows.  (H, S, D) to (1, S, H·D)."""
    heads, steps, dim = query.shape
    key_heads = cache.key.shape[0]
    query = query * scale if scale != 1 else query
    grouped = query.reshape(key_heads, -1, dim)  # (K, H/K·S, D)
    raw = torch.bmm(grouped, cache.key).view(heads, steps, -1)  # (H, S, T)
    weights = torch.softmax(raw + place.mask, -1)
    mixed = torch.bmm(weights.view(key_heads, -1, weights.shape[-1]), cache.value).view(heads, steps, dim)
    return mixed.permute(1, 0, 2).reshape(1, steps, -1)
