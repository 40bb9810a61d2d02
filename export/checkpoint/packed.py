"""Tensors of a quantized release: packed integers and their scales, taken as they are.

A linear X is `X.weight` and `X.weight_scale`, a table `X.embedding_quantized` and `X.embedding_scale`; one
scale a row, or several that cover equal parts of it.  The packing is quantize/pack.py's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantize.affine import Floats, Quantized
from quantize.scheme import Scheme
from runtime.errors import GemmaError

from ..model.arrays import Shape
from ..model.config import FLOATS, ActivationScales
from ..model.released_bits import ACTIVATIONS, CACHES, LONGEST_PATTERN, ReleasedBits
from ..model.tensors import HEAD, our_name
from .stored import DTYPES, TensorEntry, widened

SCALES = {"weight": "weight_scale", "embedding_quantized": "embedding_scale"}  # by the name of the integers
HEAD_MODULE = HEAD.removesuffix(".weight")
SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max) / 128  # of a scale


@dataclass(frozen=True)
class PackedEntry:
    """A matrix (rows, inputs) as integers; its rows read as floats, as those of other entries do.

    codes: (rows, bytes), I8 or U8; scales: (rows, groups)
    """

    source_name: str
    codes: TensorEntry
    scales: TensorEntry
    bits: int
    inputs: int
    dtype: str = "F32"  # of the values

    @property
    def shape(self) -> Shape:
        return self.codes.shape[0], self.inputs

    @property
    def origin(self) -> str:
        return self.codes.origin

    @property
    def scheme(self) -> Scheme:
        groups = self.scales.shape[1]
        return Scheme(self.bits, self.inputs // groups if groups > 1 else 0)

    @contextmanager
    def opened(self) -> Iterator[PackedRows]:
        with self.codes.opened() as codes, self.scales.opened() as scales:
            yield PackedRows(self, codes, scales)

    def quantized(self, rows: range) -> Quantized:
        """Raises GemmaError for a scale that is zero, NaN or Inf."""
        with self.opened() as view:
            return view.quantized(slice(rows.start, rows.stop))


@dataclass(frozen=True)
class PackedRows:
    """Slices of rows, as floats or as they are."""

    entry: PackedEntry
    codes: Any
    scales: Any

    def __getitem__(self, rows: slice) -> Floats:
        return self.quantized(rows).dequantize()

    def quantized(self, rows: slice) -> Quantized:
        scales = widened(self.scales[rows])
        wrong = ~np.isfinite(scales) | (scales == 0)
        if wrong.any():
            raise GemmaError(
                f"{self.entry.scales.origin}: {int(wrong.sum())} scales are zero, NaN or Inf",
                "the checkpoint is damaged; download it again",
            )
        return Quantized(self.codes[rows].view(np.uint8), scales, self.entry.scheme, self.entry.inputs)


def join(
    tensors: Mapping[str, TensorEntry], bits: ReleasedBits, shapes: Mapping[str, Shape], where: str
) -> dict[str, TensorEntry]:
    """Integers and scales of a module as one `X.weight`; what is said of activations and caches left out.

    `shapes` are those that the model needs, by our name.  Raises GemmaError for integers or scales that can not
    be what the config says, and for a rule of it that is about nothing.
    """
    longest = max(tensors, key=len, default="")
    if len(longest) > LONGEST_PATTERN:
        raise GemmaError(
            f"{where}: the name of a tensor has {len(longest)} characters, which is too long",
            "download the checkpoint again",
        )
    idle = bits.idle(name.rpartition(".")[0] for name in tensors)
    if idle:
        raise GemmaError(
            f"{where}: module_quant_configs in config.json has {idle[0]!r}, which matches no tensor",
            "check that config.json belongs to these weights",
        )
    joined: dict[str, TensorEntry] = {}
    taken = {*SCALES.values(), *ACTIVATIONS, *CACHES}
    for name, entry in tensors.items():
        module, _, part = name.rpartition(".")
        scales = tensors.get(f"{module}.{SCALES.get(part)}")
        if scales is not None:
            shape = shapes.get(f"{our_name(module)}.weight", ())
            joined[f"{module}.weight"] = packed(f"{module}.weight", entry, scales, bits.of(module), shape)
        elif part not in taken:
            joined[name] = entry
    return joined


def packed(name: str, codes: TensorEntry, scales: TensorEntry, bits: int, shape: Shape) -> PackedEntry:
    kind = "I8" if bits == 8 else "U8"
    if codes.dtype != kind or len(codes.shape) != 2:
        raise GemmaError(
            f"{codes.origin} is {codes.dtype} {list(codes.shape)}, "
            f"but rows of int{bits} are stored as {kind} [rows, bytes]",
            "check that config.json belongs to these weights",
        )
    inputs = codes.shape[1] * 8 // bits
    if len(shape) == 2 and Scheme(bits).packed_bytes(shape[1]) == codes.shape[1]:
        inputs = shape[1]  # the last byte may be filled up
    sound = scales.dtype in DTYPES and len(scales.shape) == 2 and scales.shape[0] == codes.shape[0]
    if not sound or not scales.shape[1] or inputs % scales.shape[1]:
        raise GemmaError(
            f"{scales.origin} is {scales.dtype} {list(scales.shape)}, "
            f"which does not hold the scales of {codes.shape[0]} rows of {inputs}",
            "download the file again",
        )
    return PackedEntry(name, codes, scales, bits, inputs)


def cache_scales(tensors: Mapping[str, TensorEntry]) -> dict[str, float]:
    """Scales of keys and values in int8, by our parameter name; a scale of zero says that there is none.

    Raises GemmaError for one that is no scale.
    """
    scales = {}
    for name, entry in tensors.items():
        module, _, part = name.rpartition(".")
        if part in CACHES and (scale := single_scale(entry)):
            scales[f"{our_name(module)}.{CACHES[part]}"] = scale
    return scales


def activation_scales(tensors: Mapping[str, TensorEntry], where: str) -> dict[str, ActivationScales]:
    """Static scales of the inputs and outputs of linears, by our label; linears whose scales are zero are left out.

    Raises GemmaError for one that is no scale, for a linear that lacks one where others have them, and for a head
    that has some: its logits would be rounded, which no release does.
    """
    if not any(name.endswith(ACTIVATIONS) for name in tensors):
        return {}
    linears = {
        name.removesuffix(".weight") for name in tensors if name.endswith(".weight") and f"{name}_scale" in tensors
    }
    read = {module: scales_of(module, tensors, where) for module in sorted(linears)}
    if any(single_scale(tensors[name]) for part in ACTIVATIONS if (name := f"{HEAD_MODULE}.{part}") in tensors):
        raise GemmaError(
            f"{where}: {HEAD_MODULE} has static ranges of activations, where releases have zeros",
            "a head that rounds its logits is not supported",
        )
    return {our_name(module): scales for module, scales in read.items() if scales != FLOATS}


def scales_of(module: str, tensors: Mapping[str, TensorEntry], where: str) -> ActivationScales:
    for part in ACTIVATIONS:
        if f"{module}.{part}" not in tensors:
            raise GemmaError(
                f"{where}: {module} has no {part}, though other linears have it",
                "the checkpoint is incomplete; download it again",
            )
    return ActivationScales(*(single_scale(tensors[f"{module}.{part}"]) for part in ACTIVATIONS))


def single_scale(entry: TensorEntry) -> float:
    """Raises GemmaError for what is not one number, 0 or one that integers of 8 bits can be multiplied by."""
    if entry.shape not in ((), (1,)) or entry.dtype not in DTYPES:
        raise GemmaError(
            f"{entry.origin} must be one scale, not {entry.dtype} {list(entry.shape)}", "download the checkpoint again"
        )
    with entry.opened() as view:
        scale = float(widened(view[:])[0])
    if scale != 0 and not SMALLEST <= scale <= LARGEST:
        raise GemmaError(
            f"{entry.origin} is {scale}, which is not a valid scale", "the checkpoint is damaged; download it again"
        )
    return scale
