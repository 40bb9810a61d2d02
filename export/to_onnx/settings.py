"""What may be chosen about an ONNX artifact."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Choices that change the artifact's speed and memory, and never its integers.

    accuracy: `accuracy_level` of MatMulNBits; 4 rounds activations to int8, a block at a time, 1 keeps float32
    largest: bytes of integers of one matmul; a larger matrix is stored in parts
    """

    accuracy: int = 4
    largest: int = 32 << 20
