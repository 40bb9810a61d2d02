"""What `gemma-edge eval` finds, as types, and its table."""

from __future__ import annotations

from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray


class Divergence(msgspec.Struct, frozen=True):
    """An artifact against the float model, over all scored positions."""

    float_perplexity: float
    mean_kl: float  # KL(float || artifact), nats a token
    worst_kl: float
    agreement: float  # share with the same most likely token
    tv64: float  # mean total variation over the float model's 64 most likely tokens
    kl_by_position: list[tuple[int, float]]  # (first position of a bin of the window, mean KL)


class BundleQuality(msgspec.Struct, frozen=True):
    """One bundle."""

    bundle: str
    recipe: str
    bytes: int
    resident_bytes: int  # of the graph's weights; row files are mapped
    perplexity: float
    divergence: Divergence | None


class Evaluation(msgspec.Struct, frozen=True):
    """Bundles on the same windows of a text."""

    text: str
    windows: int
    window_tokens: int
    positions: int  # that are scored
    threads: int
    against: str | None  # the float checkpoint
    bundles: list[BundleQuality]


class Meter(Protocol):
    """Compares an artifact's scored logits with those of another model."""

    def see(self, window: int, position: int, logits: NDArray[np.float32]) -> None:
        """Logits (n, vocab) from a position of a window on."""
        ...

    def divergence(self) -> Divergence: ...


def table(evaluation: Evaluation) -> list[list[str]]:
    """Titles, the float model if there is one, and a row for each bundle."""
    titles = ["bundle", "recipe", "bytes", "resident", "perplexity"]
    rows = [known(figures) for figures in evaluation.bundles]
    if evaluation.against is None:
        return [titles, *rows]
    divergences = [bundle.divergence for bundle in evaluation.bundles if bundle.divergence]
    first = [evaluation.against, "checkpoint", "", "", f"{divergences[0].float_perplexity:.3f}", "", "", "", ""]
    compared = [row + measured(divergence) for row, divergence in zip(rows, divergences, strict=True)]
    return [[*titles, "KL mean", "KL worst", "top-1", "TV64"], first, *compared]


def known(figures: BundleQuality) -> list[str]:
    sizes = (f"{figures.bytes:,}", f"{figures.resident_bytes:,}")
    return [figures.bundle, figures.recipe, *sizes, f"{figures.perplexity:.3f}"]


def measured(divergence: Divergence) -> list[str]:
    return [
        f"{divergence.mean_kl:.3g}",
        f"{divergence.worst_kl:.3g}",
        f"{divergence.agreement:.2%}",
        f"{divergence.tv64:.3g}",
    ]
