"""Integers to bytes and back.

int8   one byte each, two's complement
int4   two to a byte, low bits first along the row, stored with 8 added:

           byte 0          byte 1
         hi     lo       hi     lo
       [ c1+8 | c0+8 ] [ c3+8 | c2+8 ] ...

int2   four to a byte, low bits first along the row, stored with 2 added
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
    per_byte = 8 // bits
    short = -codes.shape[-1] % per_byte
    if short:
        codes = np.pad(codes, ((0, 0), (0, short)))
    fields = (codes + np.int8(1 << (bits - 1))).view(np.uint8)
    packed: Bytes = fields[:, 0::per_byte].copy()
    for place in range(1, per_byte):
        packed |= fields[:, place::per_byte] << np.uint8(place * bits)
    return packed


def unpack(packed: Bytes, bits: int, count: int) -> Codes:
    """Bytes (rows, m) uint8 back to `count` codes a row, int8."""
    if bits == 8:
        return packed.view(np.int8)[:, :count]
    per_byte, mask = 8 // bits, np.uint8((1 << bits) - 1)
    codes = np.empty((packed.shape[0], packed.shape[1] * per_byte), np.int8)
    for place in range(per_byte):
        codes[:, place::per_byte] = (packed >> np.uint8(place * bits)) & mask
    codes -= np.int8(1 << (bits - 1))
    return codes[:, :count]
