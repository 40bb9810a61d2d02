"""Random values for tensors of a shape, any part of any tensor at any time: a checkpoint that need not be written.

One block of normal numbers is drawn; a tensor is that block over and over from a place of its own,
scaled.  The block's length is prime, so no two rows of a matrix are equal.  Scales keep a model sane:
activations of size 1 to 4 through all layers, and logits that make neither a certainty nor a
uniform distribution.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .config import GemmaConfig
from .tensors import Shape

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
BLOCK = 4_194_301  # the largest prime below 2 ** 22
BRANCH = 0.3  # norms at the end of a branch: 105 branches of E2B make a residual of size 3


@dataclass(frozen=True)
class Normal:
    mean: float
    deviation: float


@dataclass(frozen=True)
class Block:
    """Normal numbers of one seed, the same for one version of numpy."""

    seed: int

    @cached_property
    def values(self) -> NDArray[np.float32]:
        return np.random.default_rng(self.seed).standard_normal(BLOCK, np.float32)

    def start(self, name: str) -> int:
        """Where a tensor begins."""
        digest = hashlib.blake2b(f"{self.seed} {name}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") % BLOCK


def spread(config: GemmaConfig, name: str, shape: Shape) -> Normal:
    """Mean and deviation of a tensor, by its released name; the first pattern that fits."""
    one = 1.0 - config.norm_offset  # what a norm's weight of one is stored as
    text = not any(tower in name for tower in ("_tower.", "embed_vision.", "embed_audio."))
    dim = shape[0] if shape else 1
    of_keys = 2 / (config.attention_scale * dim**0.5) - config.norm_offset  # attention scores of deviation 2
    rules = [
        ("*.self_attn.k_norm.weight", Normal(of_keys if text else 1.0, 0.05 * of_keys if text else 0.05)),
        ("*.post_*norm.weight", Normal(BRANCH - config.norm_offset if text else 1.0, 0.03)),
        ("*norm*.weight", Normal(one if text else 1.0, 0.1)),
        ("*.conv_norm.weight", Normal(1.0, 0.1)),
        ("*.layer_scalar", Normal(1.0, 0.01)),
        ("*_min", Normal(-8.0, 0.0)),
        ("*_max", Normal(8.0, 0.0)),
        ("*.std_scale", Normal(1.0, 0.1)),
        ("*.position_embedding_table", Normal(0.0, 0.02)),
        (
            "*.embed_tokens*.weight",
            Normal(0.0, (config.per_layer_dim if "per_layer" in name else config.hidden) ** -0.5),
        ),
    ]
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else 0
    rest = Normal(0.0, fan_in**-0.5 if fan_in else 0.02)
    return next((found for pattern, found in rules if fnmatchcase(name, pattern)), rest)


@dataclass(frozen=True)
class Rows:
    """The rows of one tensor, made when asked for; `rows[a:b]` as of a file."""

    shape: Shape
    start: int
    tile: NDArray[np.generic]  # the block, scaled, as bfloat16

    def __getitem__(self, rows: slice) -> NDArray[np.generic]:
        first, last, _ = rows.indices(self.shape[0])
        width = math.prod(self.shape[1:])
        return self.flat(first * width, last * width).reshape(last - first, *self.shape[1:])

    def flat(self, first: int, last: int) -> NDArray[np.generic]:
        """Values from the first to before the last."""
        return np.concatenate([np.empty(0, BFLOAT16), *self.pieces(first, last)])

    def pieces(self, first: int, last: int) -> Iterator[NDArray[np.generic]]:
        """The same as views of the tile."""
        while first < last:
            at = (self.start + first) % BLOCK
            piece = self.tile[at : at + last - first]
            yield piece
            first += len(piece)


@dataclass(frozen=True)
class GeneratedEntry:
    """A tensor of a checkpoint that is nowhere; as checkpoint.Entry."""

    released: str
    shape: Shape
    normal: Normal
    block: Block
    dtype: str = "BF16"

    @property
    def origin(self) -> str:
        return f"generated: {self.released}"

    @contextmanager
    def opened(self) -> Iterator[Rows]:
        """Small tensors scale the values they have only."""
        size, start = math.prod(self.shape), self.block.start(self.released)
        values = self.block.values
        if start + size <= BLOCK:
            start, values = 0, values[start : start + size]
        scaled = (values * np.float32(self.normal.deviation) + np.float32(self.normal.mean)).astype(BFLOAT16)
        yield Rows(self.shape, start, scaled)
