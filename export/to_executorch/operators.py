"""The operators of operators.py in XNNPACK's: static shapes, linears, matmuls, no gathers.

Caches hold keys as columns and values as rows, so that neither is transposed to be multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .xnnpack_graph import Builder, Put, XnnValue

SQRT_8_OVER_PI = 1.5957691216057308


@dataclass(frozen=True)
class Place:
    """Where the tokens of a call stand, for one kind of layer.

    slots (S,): where their keys and values go; mask (S, T): 0 for a row that a token sees, else far below
    any score; cos, sin (S, D/2): rotary factors of their positions
    """

    slots: XnnValue
    mask: XnnValue
    cos: XnnValue
    sin: XnnValue


@dataclass(frozen=True)
class Cache:
    """key (K, D, T), value (K, T, D)."""

    key: XnnValue
    value: XnnValue


def gelu_tanh(to: Builder, x: XnnValue) -> XnnValue:
    """0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))), as x · sigmoid(√(8/π) x (1 + 0.044715 x²)): fewer operators."""
    inner = to.add(to.multiply(to.square(x), to.number(SQRT_8_OVER_PI * 0.044715)), to.number(SQRT_8_OVER_PI))
    return to.multiply(x, to.sigmoid(to.multiply(x, inner)))


def unit(to: Builder, x: XnnValue, eps: float) -> XnnValue:
    """x / sqrt(mean(x²) + eps).  The mean is a linear: XNNPACK's own is not to be had here."""
    width = x.shape[-1]
    ones = to.array(f"mean/{width}", np.full((1, width), 1 / width, np.float32))
    mean = to.fully_connected(to.square(x), ones)
    return to.multiply(x, to.rsqrt(to.add(mean, to.number(eps))))


def split_heads(to: Builder, x: XnnValue, dim: int) -> XnnValue:
    """(1, S, N·D) to (N, S, D)."""
    return to.transpose(to.reshape(x, x.shape[1], x.shape[2] // dim, dim), 1, 0, 2)


def rotate(to: Builder, x: XnnValue, place: Place) -> XnnValue:
    """First half paired with second half (NeoX).  x (N, S, D)."""
    half = x.shape[-1] // 2
    a, b = to.slice(x, 0, half), to.slice(x, half, 2 * half)
    left = to.subtract(to.multiply(a, place.cos), to.multiply(b, place.sin))
    return to.concat(left, to.add(to.multiply(b, place.cos), to.multiply(a, place.sin)))


def keep(to: Builder, cache: Cache, key: XnnValue, value: XnnValue, place: Place) -> Cache:
    """Key and value (K, S, D) into their slots."""
    columns = to.transpose(key, 0, 2, 1)
    to.steps += [Put(cache.key, 2, place.slots, columns), Put(cache.value, 1, place.slots, value)]
    return cache


def attended(to: Builder, query: XnnValue, cache: Cache, place: Place, scale: float) -> XnnValue:
    """softmax(query · key · scale) · value over what the mask shows.  (H, S, D) to (1, S, H·D)."""
    heads, steps, dim = query.shape
    key_heads, _, rows = cache.key.shape
    query = to.multiply(query, to.number(scale)) if scale != 1 else query
    grouped = to.reshape(query, key_heads, heads // key_heads * steps, dim)
    raw = to.reshape(to.matmul(grouped, cache.key), heads, steps, rows)
    weights = to.softmax(to.add(raw, place.mask))
    mixed = to.matmul(to.reshape(weights, key_heads, heads // key_heads * steps, rows), cache.value)
    return to.reshape(to.transpose(to.reshape(mixed, heads, steps, dim), 1, 0, 2), 1, steps, heads * dim)
