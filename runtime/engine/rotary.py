"""Rotary positions: cosines and sines of the positions that a call reads."""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats
from ..bundle.manifest import Rope


def frequencies(rope: Rope) -> Floats:
    """(head_dim / 2): theta ** (-2 j / head_dim) for the rotated pairs, zero for the others.

    "Proportional" RoPE of Gemma 4's full layers.
    """
    pairs = np.arange(rope.head_dim // 2)
    frequency = np.where(pairs < rope.rotated_pairs, rope.theta ** (-2.0 * pairs / rope.head_dim), 0.0)
    return frequency.astype(np.float32)


def rotary_rows(frequency: Floats, positions: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """cos and sin (positions, head_dim / 2) of position * frequency, computed in float32."""
    angle = positions.astype(np.float32)[:, None] * frequency
    return np.cos(angle), np.sin(angle, out=angle)


def rotary_table(rope: Rope, rows: int) -> tuple[Floats, Floats]:
    """cos and sin (rows, head_dim / 2) of the positions from 0 on."""
    return rotary_rows(frequencies(rope), np.arange(rows))


def untouched(rows: int, columns: int) -> Floats:
    """(rows, columns) zeros that take no memory until they are written."""
    return np.frombuffer(mmap.mmap(-1, 4 * rows * columns), np.float32).reshape(rows, columns)


class RotaryRows:
    """Tables as long as onnxruntime asks for, of which only the rows of the running call are filled.

    The positions that go into the graph count the call's own tokens: row i is of token i.
    """

    def __init__(self, rope: Rope, rows: int) -> None:
        self.frequency = frequencies(rope)
        self.cos, self.sin = (untouched(rows, len(self.frequency)) for _ in range(2))

    def fill(self, positions: NDArray[np.int64]) -> None:
        self.cos[: len(positions)], self.sin[: len(positions)] = rotary_rows(self.frequency, positions)
