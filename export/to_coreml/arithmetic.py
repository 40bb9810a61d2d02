"""What MIL's arithmetic operators compute, in numpy: floats in float32, whatever they are stored as.

Each takes its operator's arguments by their names, with MIL's defaults where there are some.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..model.arrays import Array

ROOT = np.float32(np.sqrt(2 / np.pi))
CUBIC = np.float32(0.044715)


def wide(x: Array) -> Array:
    """float16 as float32; the others as they are."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def add(x: Array, y: Array) -> Array:
    return wide(x) + wide(y)


def sub(x: Array, y: Array) -> Array:
    return wide(x) - wide(y)


def mul(x: Array, y: Array) -> Array:
    return wide(x) * wide(y)


def real_div(x: Array, y: Array) -> Array:
    quotient: Array = wide(x) / wide(y)
    return quotient


def round_to_even(x: Array) -> Array:
    whole: Array = np.rint(wide(x))
    return whole


def clip(x: Array, alpha: Array, beta: Array) -> Array:
    clipped: Array = np.clip(wide(x), wide(alpha), wide(beta))
    return clipped


def identity(x: Array) -> Array:
    return x


def tanh(x: Array) -> Array:
    return np.tanh(wide(x))


def rsqrt(x: Array, epsilon: Array) -> Array:
    root: Array = 1 / np.sqrt(wide(x) + wide(epsilon))
    return root


def reduce_mean(x: Array, axes: Array, keep_dims: Array) -> Array:
    mean: Array = wide(x).mean(tuple(axes.tolist()), keepdims=bool(keep_dims))
    return mean


def softmax(x: Array, axis: Array) -> Array:
    x = wide(x)
    powers = np.exp(x - x.max(int(axis), keepdims=True))
    shares: Array = powers / powers.sum(int(axis), keepdims=True)
    return shares


def gelu(x: Array, mode: str) -> Array:
    """The tanh form.  Raises ValueError for another."""
    if mode != "TANH_APPROXIMATION":
        raise ValueError(f"mode {mode}, which is not evaluated")
    x = wide(x)
    activated: Array = np.float32(0.5) * x * (1 + np.tanh(ROOT * (x + CUBIC * x * x * x)))
    return activated


def matmul(x: Array, y: Array, transpose_x: Array, transpose_y: Array) -> Array:
    x, y = (np.swapaxes(matrix, -1, -2) if flag else matrix for matrix, flag in ((x, transpose_x), (y, transpose_y)))
    return wide(x) @ wide(y)


ARITHMETIC: dict[str, Callable[..., Array]] = {
    "add": add,
    "clip": clip,
    "gelu": gelu,
    "identity": identity,
    "matmul": matmul,
    "mul": mul,
    "real_div": real_div,
    "reduce_mean": reduce_mean,
    "round": round_to_even,
    "rsqrt": rsqrt,
    "softmax": softmax,
    "sub": sub,
    "tanh": tanh,
}
