"""Tokens drawn at temperature 1 from logits that are never in memory whole.

A block of the vocabulary first, by the sums of its exponentials, then one of the block.  The products with a
part of the head stay in the processor's cache; torch.multinomial alone takes longer than all of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..model.decoder import softcapped
from ..model.operators import linear

BLOCK = 64  # of the vocabulary
ROWS = 2048  # of the head at a time


def draw(hidden: Tensor, head: Tensor, cap: float, chance: torch.Generator) -> list[int]:
    """Draw a token for each of hidden states (n, hidden); head: (vocab, hidden), cap: of the logits, 0 for none."""
    # 1) a point of the cumulated probabilities, as a share of their sum
    share = torch.rand(len(hidden), generator=chance)
    # 2) the sum of exponentials of each block, all relative to the highest logit of all
    highest, sums = (torch.cat(parts) for parts in zip(*block_sums(hidden, head, cap), strict=True))  # (blocks, n)
    top = highest.amax(0)
    heights = sums.mul_((highest - top).exp_()).cumsum(0)
    # 3) the block in which the point lies, and how far into it
    height = share * heights[-1]
    block = search(heights.T, height)
    height -= torch.where(block > 0, heights.gather(0, (block - 1).clamp_min(0)[None])[0], 0)
    # 4) the logits of that block alone, and the token in it
    rows = (block[:, None] * BLOCK + torch.arange(BLOCK)).clamp_max_(len(head) - 1)  # (n, BLOCK)
    logits = (head[rows].to(hidden.dtype) @ hidden[:, :, None])[:, :, 0]
    inside = (softcapped(logits, cap) - top[:, None]).exp_().cumsum(-1)
    return rows.gather(1, search(inside, height)[:, None])[:, 0].tolist()


def block_sums(hidden: Tensor, head: Tensor, cap: float) -> list[tuple[Tensor, Tensor]]:
    """The highest logit of each block and the sum of exp(logit - highest), (blocks, n) each, for parts of the head."""
    sums = []
    for piece in torch.split(head, ROWS):
        logits = softcapped(linear(hidden, piece), cap).T  # (rows, n)
        missing = -len(logits) % BLOCK
        if missing:
            logits = nn.functional.pad(logits, (0, 0, 0, missing), value=float("-inf"))
        blocks = logits.reshape(-1, BLOCK, len(hidden))
        highest = blocks.amax(1)
        sums.append((highest, (blocks - highest[:, None]).exp_().sum(1)))
    return sums


def search(heights: Tensor, height: Tensor) -> Tensor:
    """The index of the first of growing heights (n, m) above a height (n,)."""
    place = torch.searchsorted(heights.contiguous(), height[:, None], right=True)
    return place[:, 0].clamp_max_(heights.shape[1] - 1)
