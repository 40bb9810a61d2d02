"""Rows of floats to integers and scales, by rounding to a given or to the best scale.

Scales are bfloat16 values of at least 2**-14 in size, rounded before the integers are chosen: such
a value is exact in bfloat16 (XNNPACK), float16 (Core ML, for sizes up to 65504) and float32 (onnxruntime), so that all
backends hold bit-identical weights.  A scale may be negative, so that the lowest code, which has no
positive twin, can take a largest value of either sign.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from .pack import Bytes, pack, unpack
from .scheme import Scales, Scheme

Floats = NDArray[np.float32]
SMALLEST_SCALE = 2.0**-14
TINY = float(torch.finfo(torch.float32).tiny)
ROWS_BYTES = 1 << 21  # floats are searched in pieces that stay in the cache


@dataclass(frozen=True)
class Quantized:
    """A matrix (rows, inputs) as packed integers and scales.

    packed: (rows, scheme.packed_bytes(inputs)) uint8
    scales: (rows, scheme.groups(inputs)) float32; bfloat16-valued, unless a checkpoint was released with them
    """

    packed: Bytes
    scales: Floats
    scheme: Scheme
    inputs: int

    @property
    def rows(self) -> int:
        return int(self.packed.shape[0])

    @property
    def nbytes(self) -> int:
        return self.packed.nbytes + self.scales.nbytes // 2

    def part(self, start: int, stop: int) -> Quantized:
        """Some rows."""
        return replace(self, packed=self.packed[start:stop], scales=self.scales[start:stop])

    def codes(self) -> NDArray[np.int8]:
        """(rows, inputs) int8."""
        return unpack(np.ascontiguousarray(self.packed), self.scheme.bits, self.inputs)

    def dequantize(self) -> Floats:
        """(rows, inputs) float32."""
        widened = np.repeat(self.scales, self.scheme.width(self.inputs), axis=1)[:, : self.inputs]
        return self.codes() * widened


@dataclass(frozen=True)
class Loss:
    """What rounding cost: squared error over squared weights, and the worst single error."""

    squared_error: float = 0.0
    squared_sum: float = 0.0
    worst: float = 0.0

    def __add__(self, other: Loss) -> Loss:
        return Loss(
            self.squared_error + other.squared_error,
            self.squared_sum + other.squared_sum,
            max(self.worst, other.worst),
        )

    @property
    def relative(self) -> float:
        """Root mean square error over root mean square weight."""
        return (self.squared_error / self.squared_sum) ** 0.5 if self.squared_sum else 0.0


def round_scale(scale: torch.Tensor) -> torch.Tensor:
    """The nearest bfloat16 value of at least 2**-14 in size, as float32; sign kept, zero is positive."""
    sign = torch.where(scale < 0, -1.0, 1.0)
    return sign * scale.abs().clamp_min(SMALLEST_SCALE).to(torch.bfloat16).float()


def absmax_scales(groups: torch.Tensor, scheme: Scheme, _importance: torch.Tensor | None = None) -> torch.Tensor:
    """Plain rounding's scale: the largest size maps to the highest code.  (n, width) to (n,)."""
    return round_scale(groups.abs().amax(-1) / scheme.highest)


def least_squares_scales(
    groups: torch.Tensor, scheme: Scheme, importance: torch.Tensor | None = None, positive: bool = False
) -> torch.Tensor:
    """The scale of least squared error, each weighted by its importance, of either sign unless `positive`.

    (n, width) to (n,).  A grid of clipping factors for both ends of the codes, then alternating least
    squares (codes given the scale, scale given the codes).  At 8 bits clipping never pays, so the grid
    is its end.
    """
    largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))  # (n, 1)
    ends = (scheme.lowest, scheme.highest)
    if positive:
        largest, ends = largest.abs(), (-scheme.lowest, scheme.highest)
    factors = torch.linspace(0.6, 1.02, 7).tolist() if scheme.bits < 8 else [1.0]
    best = round_scale(largest / scheme.highest)
    least = squared_error(groups, best, scheme, importance)
    for candidate in (largest * f / end for f in factors for end in ends):
        best, least = keep_better(groups, round_scale(candidate), scheme, importance, best, least)
    for _ in range(3):
        codes = nearest_codes(groups, best, scheme)
        weighted = codes if importance is None else codes * importance
        fit = (weighted * groups).sum(-1, keepdim=True) / (weighted * codes).sum(-1, keepdim=True).clamp_min(TINY)
        best, least = keep_better(groups, round_scale(fit), scheme, importance, best, least)
    return best[:, 0]


def squared_error(
    groups: torch.Tensor, scale: torch.Tensor, scheme: Scheme, importance: torch.Tensor | None = None
) -> torch.Tensor:
    """The squared error of rounding with scale (n, 1), (n,), weighted by importance (n, width)."""
    codes = nearest_codes(groups, scale, scheme)
    error = torch.addcmul(groups, codes, scale, value=-1, out=codes).square_()
    return (error if importance is None else error.mul_(importance)).sum(-1)


def nearest_codes(groups: torch.Tensor, scale: torch.Tensor, scheme: Scheme) -> torch.Tensor:
    """Integers (n, width), as floats."""
    return torch.div(groups, scale).round_().clamp_(scheme.lowest, scheme.highest)


def keep_better(
    groups: torch.Tensor,
    scale: torch.Tensor,
    scheme: Scheme,
    importance: torch.Tensor | None,
    best: torch.Tensor,
    least: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    error = squared_error(groups, scale, scheme, importance)
    better = error < least
    return torch.where(better[:, None], scale, best), torch.where(better, error, least)


SCALES: dict[Scales, Callable[[torch.Tensor, Scheme, torch.Tensor | None], torch.Tensor]] = {
    "absmax": absmax_scales,
    "least-squares": least_squares_scales,
    "positive": partial(least_squares_scales, positive=True),
}


def quantize(
    matrix: Floats,
    scheme: Scheme,
    scales: Scales = "least-squares",
    importance: Floats | None = None,
    piece_bytes: int = ROWS_BYTES,
) -> tuple[Quantized, Loss]:
    """Round a matrix (rows, inputs) float32 to integers.

    `scales` is one of SCALES: "absmax" is plain rounding, to compare with.  `importance` (inputs,) weighs
    the error of each input: its mean square in use.  `piece_bytes` of floats are rounded at a time, which changes no
    integer.  Raises ValueError for values that are not finite.
    """
    # 1) cut the rows into groups that share a scale, the last of a row filled up with zeros
    rows, inputs = matrix.shape
    width, count = scheme.width(inputs), scheme.groups(inputs)
    padded = count * width
    weight = None if importance is None else weights_of(importance, count, width)
    chosen = np.empty((rows, count), np.float32)
    packed = np.empty((rows, scheme.packed_bytes(inputs)), np.uint8)
    # 2) a piece of rows at a time: choose a scale for each group, round, and pack
    loss, step = Loss(), max(1, piece_bytes // (4 * padded))
    for start in range(0, rows, step):
        piece = torch.from_numpy(np.ascontiguousarray(matrix[start : start + step], np.float32))
        if not torch.isfinite(piece).all():
            raise ValueError("NaN or Inf")
        groups = torch.nn.functional.pad(piece, (0, padded - inputs)).view(-1, width)
        importance_of_groups = None if weight is None else weight.repeat(len(piece), 1)
        scale = SCALES[scales](groups, scheme, importance_of_groups)
        codes = nearest_codes(groups, scale[:, None], scheme)
        loss += loss_of(groups, torch.addcmul(groups, codes, scale[:, None], value=-1))
        codes = codes.view(-1, padded)[:, :inputs]
        chosen[start : start + step] = scale.view(-1, count).numpy()
        packed[start : start + step] = pack(codes.to(torch.int8).numpy(), scheme.bits)
    return Quantized(packed, chosen, scheme, inputs), loss


def weights_of(importance: Floats, count: int, width: int) -> torch.Tensor:
    """Importance (inputs,) to (groups, width), never quite zero."""
    weight = torch.from_numpy(np.ascontiguousarray(importance, np.float32))
    weight = weight.clamp_min(float(weight.mean()) * 1e-4).clamp_min(TINY)
    return torch.nn.functional.pad(weight, (0, count * width - len(weight))).view(count, width)


def loss_of(values: torch.Tensor, error: torch.Tensor) -> Loss:
    """Sum up the errors of values, of the same shape."""
    squares = [tensor.square().sum(dtype=torch.float64).item() for tensor in (error, values)]
    return Loss(squares[0], squares[1], error.abs().amax().item() if error.numel() else 0.0)
