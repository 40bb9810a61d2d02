"""What may be chosen about a Core ML artifact."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Sizes of the artifact, whose shapes are all static.

    tokens: how many tokens a call of `prefill` reads
    context: the most positions of the full layers' states, which each step reads whole; at most the model's own
    """

    tokens: int = 128
    context: int = 4096
