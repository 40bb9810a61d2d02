"""Integers to bytes and back.

int8   one byte each, two's complement
int4   two to a byte, low nibble first along the row, stored with 8 added:

           byte 0          byte 1
         hi     lo       hi     lo
       [ c1+8 | c0+8 ] [ c3+8 | c2+8 ] ...
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int8]
Bytes = NDArray[np.uint8]


def pack(codes: Codes, bits: int) -> Bytes:
    """Codes (rows, n) int8 to bytes (rows, ceil(n * bits / 8)) uint8."""
    if bits == 8:
        return codes.view(np.uint8)
    if codes.shape[-1] % 2:
        codes = np.pad(codes, ((0, 0), (0, 1)))
    nibbles = (codes + np.int8(8)).view(np.uint8)
    packed: Bytes = nibbles[:, 0::2] | (nibbles[:, 1::2] << np.uint8(4))
    return packed


def unpack(packed: Bytes, bits: int, count: int) -> Codes:
    """Bytes (rows, m) uint8 back to `count` codes a row, int8."""
    if bits == 8:
        return packed.view(np.int8)[:, :count]
    codes = np.empty((packed.shape[0], packed.shape[1] * 2), np.int8)
    codes[:, 0::2] = packed & 15
    codes[:, 1::2] = packed >> 4
    codes -= 8
    return codes[:, :count]
