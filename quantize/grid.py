"""Integers and scales of floats that were made of them: values on a grid, in blocks.

A release that was trained for Q4_0 holds bfloat16 values, each the rounded product of a block's float16 scale
and an integer.  The scale is what the largest value says up to bfloat16's rounding; the float16 numbers
around it are tried until one gives every value of the block again.
"""

from __future__ import annotations

import numpy as np
import torch

from .affine import SMALLEST_SCALE, Floats, Quantized
from .pack import pack
from .scheme import Scheme

NEAR = (0, 1, -1, 2, -2, 3, -3, 4, -4)  # float16 numbers around one that bfloat16 rounds to the same
PIECE = 1 << 15  # blocks at a time


def recover(matrix: Floats, scheme: Scheme) -> tuple[Quantized, np.ndarray]:
    """A matrix (rows, inputs) of bfloat16 values; which of its blocks (rows, groups) are on a grid.

    round_bf16(scale · integer) equals each value of such a block.  The others are zero.
    """
    rows, inputs = matrix.shape
    width, count = scheme.width(inputs), scheme.groups(inputs)
    padded = np.pad(matrix, ((0, 0), (0, count * width - inputs)))
    blocks = torch.from_numpy(padded).view(-1, width)
    scales, codes = torch.empty(len(blocks)), torch.empty(blocks.shape, dtype=torch.int8)
    explained = torch.empty(len(blocks), dtype=torch.bool)
    for start in range(0, len(blocks), PIECE):
        part = slice(start, start + PIECE)
        scales[part], codes[part], explained[part] = of_blocks(blocks[part], scheme)
    packed = pack(codes.view(rows, -1)[:, :inputs].numpy(), scheme.bits)
    return Quantized(packed, scales.view(rows, count).numpy(), scheme, inputs), explained.view(rows, count).numpy()


def of_blocks(blocks: torch.Tensor, scheme: Scheme) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Blocks (n, width) to scales (n,), codes (n, width) int8, and whether they give the values again (n,)."""
    largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))[:, 0]
    zero = largest == 0
    scales = torch.full_like(largest, SMALLEST_SCALE)
    codes, explained = torch.zeros(blocks.shape, dtype=torch.int8), zero.clone()
    for end in (scheme.lowest, scheme.highest, -scheme.highest):  # the integer of the largest value
        for near in NEAR:
            left = (~explained).nonzero()[:, 0]
            if not len(left):
                return scales, codes, explained
            scale = neighbour((largest[left] / end).half(), near).float()
            tried = blocks[left]
            codes_tried = torch.div(tried, scale[:, None]).nan_to_num_(0).round_().clamp_(scheme.lowest, scheme.highest)
            equal = (
                ((codes_tried * scale[:, None]).bfloat16().float() == tried).all(-1) & scale.isfinite() & (scale != 0)
            )
            hit = left[equal]
            scales[hit], codes[hit], explained[hit] = scale[equal], codes_tried[equal].to(torch.int8), True
    return scales, codes, explained


def neighbour(value: torch.Tensor, steps: int) -> torch.Tensor:
    """The float16 number some steps away from zero, or towards it."""
    return (value.view(torch.int16) + steps).view(torch.float16)
