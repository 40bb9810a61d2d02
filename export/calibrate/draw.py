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
    """A token for each of hidden states (n, hidden); head (vocab, hidden)."""
    share = torch.rand(len(hidden), generator=chance)
    highest, sums = (torch.cat(one) for one in zip(*block_sums(hidden, head, cap), strict=True))  # (blocks, n)
    top = highest.amax(0)
    heights = sums.mul_((highest - top).exp_()).cumsum(0)
    height = share * heights[-1]
    block = search(heights.T, height)
    height -= torch.where(block > 0, heights.gather(0, (block - 1).clamp_min(0)[None])[0], 0)
    rows = (block[:, None] * BLOCK + torch.arange(BLOCK)).clamp_max_(len(head) - 1)  # (n, BLOCK)
    each = (head[rows].to(hidden.dtype) @ hidden[:, :, None])[:, :, 0]
    inside = (softcapped(each, cap) - top[:, None]).exp_().cumsum(-1)
    return rows.gather(1, search(inside, height)[:, None])[:, 0].tolist()


def block_sums(hidden: Tensor, head: Tensor, cap: float) -> list[tuple[Tensor, Tensor]]:
    """Of parts of the head: the highest logit of each block and the sum of exp(logit - highest), (blocks, n)."""
    found = []
    for piece in torch.split(head, ROWS):
        logits = softcapped(linear(hidden, piece), cap).T  # (rows, n)
        missing = -len(logits) % BLOCK
        if missing:
            logits = nn.functional.pad(logits, (0, 0, 0, missing), value=float("-inf"))
        blocks = logits.reshape(-1, BLOCK, len(hidden))
        highest = blocks.amax(1)
        found.append((highest, (blocks - highest[:, None]).exp_().sum(1)))
    return found


def search(heights: Tensor, height: Tensor) -> Tensor:
    """The first of growing heights (n, m) above a height (n,)."""
    found = torch.searchsorted(heights.contiguous(), height[:, None], right=True)
    return found[:, 0].clamp_max_(heights.shape[1] - 1)
