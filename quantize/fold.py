"""Channels scaled before rounding, and scaled back in what produces them.

AWQ (Lin et al., arXiv:2306.00978): an input that is large in use deserves finer steps, so its column is
made larger, and its producer smaller by the same factor.  The float model computes what it did.
"""

from __future__ import annotations

import numpy as np

from .affine import Floats

EXPONENT = 0.45  # as good as a search for each layer (DECISIONS.md)
WIDEST = 1e4  # between the largest and the smallest factor


def channel_factors(moments: Floats) -> Floats:
    """Mean squares of the inputs (n,) to factors (n,) with a geometric mean of one."""
    size = np.sqrt(np.maximum(moments.astype(np.float64), 0)) ** EXPONENT
    size = np.maximum(size, size.max(initial=0) / WIDEST)
    if not size.any():
        return np.ones(len(moments), np.float32)
    factors: Floats = (size / np.exp(np.log(size).mean())).astype(np.float32)
    return factors
