"""Keys and values on their way into the caches, in place, and the int8 ones back to floats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from ..model.arrays import Floats
from .builder import MICROSOFT, Lowering

LEAST, MOST = 16, 8192  # a call of so many tokens, over so many positions, reads int8 caches as floats


@dataclass(frozen=True)
class CacheScales:
    """Scales of int8 caches as GroupQueryAttention takes them.

    kind: "PER_TENSOR", a quarter faster, or "PER_CHANNEL"; the operator wants the same of keys and values
    names: of the scales of keys and of values, (1,) or (1, K, 1, D)
    of_keys: (D,) what keys are divided by and queries multiplied by, in the gains of their norms
    """

    kind: str
    names: list[str]
    of_keys: Floats


def store(
    to: Lowering,
    new: Sequence[str],
    pasts: Sequence[str],
    presents: Sequence[str],
    rotary: Sequence[str],
    caches: CacheScales | None,
    rows: str,
    shape: tuple[int, int],
) -> None:
    """Normed keys and values (1, S, K·D) into `rows` of their caches (1, K, T, D).

    ScatterND copies nothing else where past and present are bound to one array.
    """
    for index, (rows_of_heads, past, present) in enumerate(zip(new, pasts, presents, strict=True)):
        heads = heads_first(to, rows_of_heads, *shape, f"{present}.heads")  # (1, K, S, D)
        if index == 0:
            positions, cos, sin = rotary
            to.emit("RotaryEmbedding", [heads, positions, cos, sin], f"{present}.rotated", MICROSOFT)
            heads = f"{present}.rotated"
        if caches:
            heads = rounded(to, heads, caches, caches.names[index], f"{present}.rounded")
        to.emit("ScatterND", [past, rows, heads], present)


def heads_first(to: Lowering, x: str, heads: int, dim: int, out: str) -> str:
    if heads == 1:
        return to.reshape(x, [1, 1, -1, dim], out)
    to.emit("Transpose", [to.reshape(x, [1, -1, heads, dim], f"{out}.last")], out, perm=[0, 2, 1, 3])
    return out


def rounded(to: Lowering, x: str, caches: CacheScales, scale: str, out: str) -> str:
    zero = to.constant(np.int8(0))
    if caches.kind == "PER_CHANNEL":  # of heads and channels, which QuantizeLinear has no two axes for
        to.emit("Div", [x, scale], f"{out}.divided")
        x, scale = f"{out}.divided", to.constant(np.float32(1))
    to.emit("QuantizeLinear", [x, scale, zero], out)
    return out


def floats(to: Lowering, present: str, total: str, caches: CacheScales, scale: str) -> str:
    """The rows in use of an int8 cache, (1, K, total, D) float32."""
    first, axis = to.constant(np.array([0], np.int64)), to.constant(np.array([2], np.int64))
    used, out = f"{present}.used", f"{present}.floats"
    to.emit("Slice", [present, first, total, axis], used)
    if caches.kind == "PER_TENSOR":
        to.emit("DequantizeLinear", [used, scale], out)
        return out
    to.emit("Cast", [used], f"{out}.integers", to=TensorProto.FLOAT)
    to.emit("Mul", [f"{out}.integers", scale], out)
    return out


def tokens(to: Lowering) -> str:
    """() int64: the tokens of the call."""
    if to.first("call.tokens"):
        to.emit("Shape", ["positions"], "call.tokens.shape", start=1, end=2)
        to.emit("Squeeze", ["call.tokens.shape"], "call.tokens")
    return "call.tokens"


def total(to: Lowering, kind: str) -> str:
    """(1,) int64: rows of the caches of a kind that are in use after the call."""
    name = f"call.{kind}.total"
    if to.first(name):
        to.emit("Cast", [to.reshape(f"{kind}.total", [1], f"{name}.int32")], name, to=TensorProto.INT64)
    return name


def new_rows(to: Lowering, kind: str, kv_heads: int) -> str:
    """(1, K, S, 3) int64: the place of each head of each token of the call in the caches of a kind."""
    name = f"call.{kind}.rows.{kv_heads}"
    if not to.first(name):
        return name
    to.emit("Squeeze", [total(to, kind)], f"{name}.end")
    to.emit("Sub", [f"{name}.end", tokens(to)], f"{name}.first")
    to.emit("Range", [f"{name}.first", f"{name}.end", to.constant(np.int64(1))], f"{name}.numbers")
    in_last = to.constant(np.array([[0, 0, 1]], np.int64))
    to.emit("Mul", [to.reshape(f"{name}.numbers", [-1, 1], f"{name}.column"), in_last], f"{name}.triples")
    heads = np.zeros((1, kv_heads, 1, 3), np.int64)
    heads[0, :, 0, 1] = np.arange(kv_heads)
    to.emit("Add", [f"{name}.triples", to.constant(heads)], name)
    return name


def reads_floats(to: Lowering, kind: str) -> str:
    """(1,) bool: whether the call is a prompt's, and not over too many positions to hold as floats."""
    name = f"call.{kind}.floats"
    if to.first(name):
        to.emit("GreaterOrEqual", [tokens(to), to.constant(np.int64(LEAST))], f"{name}.many")
        to.emit("LessOrEqual", [total(to, kind), to.constant(np.int64(MOST))], f"{name}.few")
        to.emit("And", [f"{name}.many", f"{name}.few"], name)
    return name
