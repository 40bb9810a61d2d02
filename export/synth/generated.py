"""Random values for tensors of a shape, any part of any tensor at any time: a checkpoint that need not be written.

One block of normal numbers is drawn; a tensor is that block over and over from a place of its own,
scaled.  The block's length is prime, so no two rows of a matrix are equal.  Scales keep a model sane:
activations of size 1 to 4 through all layers, and logits that make neither a certainty nor a
uniform distribution.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quantize.pack import pack

from ..checkpoint.stored import DTYPES, INTEGERS
from ..model.arrays import Shape
from ..model.config import GemmaConfig
from .quantized_shapes import Described

BLOCK = 4_194_301  # the largest prime below 2 ** 22
STEPS = {2: 0.55, 4: 2.5, 8: 40.0}  # integers in a deviation, by bits: ends are rare
LEVEL = 4.0 / 127  # of a value of deviation 1 in 8 bits
BRANCH = 0.3  # norms at the end of a branch: 105 branches of E2B make a residual of size 3


TABLE = "model.language_model.embed_tokens.embedding"
TWINS = {"lm_head.weight": f"{TABLE}_quantized", "lm_head.weight_scale": f"{TABLE}_scale"}  # the same data twice


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

    def codes(self, bits: int) -> NDArray[np.int8]:
        """The numbers as integers of some bits, (BLOCK,)."""
        half = 1 << (bits - 1)
        codes: NDArray[np.int8] = np.rint(self.values * np.float32(STEPS[bits])).clip(-half, half - 1).astype(np.int8)
        return codes

    @cached_property
    def _packed(self) -> dict[int, NDArray[np.uint8]]:
        return {}

    def bytes_of(self, bits: int) -> NDArray[np.uint8]:
        """Integers, packed: as many bytes as the block has numbers, of which it is read several times."""
        if bits not in self._packed:
            rounds = np.tile(self.codes(bits), 8 // bits)
            self._packed[bits] = pack(rounds[None], bits)[0]
        return self._packed[bits]

    @cached_property
    def _deviations(self) -> dict[int, float]:
        return {}

    def deviation(self, bits: int) -> float:
        """The deviation of the integers of some bits."""
        if bits not in self._deviations:
            self._deviations[bits] = float(self.codes(bits).std())
        return self._deviations[bits]

    def start(self, name: str) -> int:
        """Return where a tensor begins."""
        digest = hashlib.blake2b(f"{self.seed} {name}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") % BLOCK


def spread(config: GemmaConfig, name: str, shape: Shape) -> Normal:
    """Mean and deviation of a tensor, by its released name; the first pattern that fits."""
    unit = 1.0 - config.norm_offset  # what a norm's weight of one is stored as
    text = not any(tower in name for tower in ("_tower.", "embed_vision.", "embed_audio."))
    dim = shape[0] if shape else 1
    of_keys = 2 / (config.attention_scale * dim**0.5) - config.norm_offset  # attention scores of deviation 2
    rules = [
        ("lm_head.*_activation_scale", Normal(0.0, 0.0)),  # not calibrated in the releases either
        ("*.k_cache_scale", Normal(LEVEL * 2 / (config.attention_scale * key_dim(config, name) ** 0.5), 0.0)),
        ("*_cache_scale", Normal(LEVEL, 0.0)),
        ("*language_model.*_activation_scale", Normal(range_end(name) / 127, 0.0)),
        ("*_activation_scale", Normal(4 * LEVEL, 0.0)),
        ("*.self_attn.k_norm.weight", Normal(of_keys if text else 1.0, 0.05 * of_keys if text else 0.05)),
        ("*.post_*norm.weight", Normal(BRANCH - config.norm_offset if text else 1.0, 0.03)),
        ("*norm*.weight", Normal(unit if text else 1.0, 0.1)),
        ("*.conv_norm.weight", Normal(1.0, 0.1)),
        ("*.layer_scalar", Normal(1.0, 0.01)),
        ("*_min", Normal(-8.0, 0.0)),
        ("*_max", Normal(8.0, 0.0)),
        ("*.std_scale", Normal(1.0, 0.1)),
        ("*.position_embedding_table", Normal(0.0, 0.02)),
        (
            "*embed_tokens*.*",
            Normal(0.0, (config.per_layer_dim if "per_layer" in name else config.hidden) ** -0.5),
        ),
    ]
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else 0
    rest = Normal(0.0, fan_in**-0.5 if fan_in else 0.02)
    return next((normal for pattern, normal in rules if fnmatchcase(name, pattern)), rest)


# Sizes that nine of ten activations do not exceed, of inputs and outputs of linears, each range clipping what follows.
NORMED = (1.65, 1.5)  # of linears that read what a norm left
RANGE_ENDS = {"o_proj": (0.95, 0.85), "down_proj": (0.67, 0.47)}
RESIDUAL = {"per_layer_input_gate": (1.65, 1.5), "per_layer_projection": (0.88, 0.6)}  # of a residual of size 1


def range_end(name: str) -> float:
    """The largest size within the static range of a tensor, of ranges that clip about a tenth, as trained ones clip."""
    match = re.search(r"layers\.(\d+)\.(?:\w+\.)?(\w+)\.(input|output)_activation_scale", name)
    if match is None:
        return 0.0
    layer, linear, end = int(match[1]), match[2], ("input", "output").index(match[3])
    if linear in RESIDUAL:
        return float(RESIDUAL[linear][end] * math.sqrt(1.33 + 0.22 * layer))
    return RANGE_ENDS.get(linear, NORMED)[end]


def key_dim(config: GemmaConfig, name: str) -> int:
    """Head dim of the layer of a tensor; of the first for one that is of none."""
    layer = re.search(r"language_model\.layers\.(\d+)\.", name)
    return config.layers[int(layer[1]) if layer else 0].head_dim


def spread_of(config: GemmaConfig, name: str, described: Described, block: Block) -> Normal:
    """Mean and deviation as `spread` says; those of a scale give its matrix the spread of its floats."""
    if not described.inputs:
        return spread(config, name, described.shape)
    whole = spread(config, name.replace("_scale", ""), (described.shape[0], described.inputs))
    step = whole.deviation / block.deviation(described.bits)
    return Normal(step, 0.05 * step)


@dataclass(frozen=True)
class GeneratedRows:
    """The rows of one tensor, made when asked for; `rows[a:b]` as of a file."""

    shape: Shape
    start: int
    tile: NDArray[np.generic]  # the block, scaled, in the dtype of the tensor

    def __getitem__(self, rows: slice) -> NDArray[np.generic]:
        first, last, _ = rows.indices(self.shape[0] if self.shape else 1)
        width = math.prod(self.shape[1:])
        return self.flat(first * width, last * width).reshape(last - first, *self.shape[1:])

    def flat(self, first: int, last: int) -> NDArray[np.generic]:
        """Values from the first to before the last."""
        return np.concatenate([np.empty(0, self.tile.dtype), *self.pieces(first, last)])

    def pieces(self, first: int, last: int) -> Iterator[NDArray[np.generic]]:
        """The same as views of the tile."""
        while first < last:
            at = (self.start + first) % BLOCK
            piece = self.tile[at : at + last - first]
            yield piece
            first += len(piece)


@dataclass(frozen=True)
class GeneratedEntry:
    """A tensor of a checkpoint that is nowhere."""

    source_name: str
    shape: Shape
    normal: Normal
    block: Block
    dtype: str = "BF16"
    bits: int = 0  # of packed integers

    @property
    def nbytes(self) -> int:
        width: int = (DTYPES | INTEGERS)[self.dtype].itemsize
        return math.prod(self.shape) * width

    @property
    def origin(self) -> str:
        return f"generated: {self.source_name}"

    @contextmanager
    def opened(self) -> Iterator[GeneratedRows]:
        """Small tensors scale the values they have only."""
        size, start = math.prod(self.shape), self.block.start(TWINS.get(self.source_name, self.source_name))
        if self.dtype in INTEGERS:
            yield GeneratedRows(self.shape, start, self.block.bytes_of(self.bits).view(INTEGERS[self.dtype]))
            return
        values = self.block.values
        if start + size <= BLOCK:
            start, values = 0, values[start : start + size]
        scaled = values * np.float32(self.normal.deviation) + np.float32(self.normal.mean)
        yield GeneratedRows(self.shape, start, scaled.astype(DTYPES[self.dtype]))
