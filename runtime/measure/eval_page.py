"""An evaluation as one page of HTML that needs nothing else."""

from __future__ import annotations

from .evaluation import Evaluation, table
from .page import document
from .plot import Series, plot

MB = 1e6


def page(evaluation: Evaluation) -> str:
    return document("eval", evaluation.text, conditions(evaluation), table(evaluation), drawings(evaluation))


def conditions(evaluation: Evaluation) -> str:
    said = (
        f"{evaluation.windows} windows of {evaluation.window_tokens} tokens, the second half of each scored: "
        f"{evaluation.positions:,} positions, {evaluation.threads} threads."
    )
    if evaluation.against is None:
        return said
    return (
        f"{said} KL is that of {evaluation.against} from the artifact, in nats a token; TV64 is the total "
        f"variation over the 64 tokens most likely for {evaluation.against}."
    )


def drawings(evaluation: Evaluation) -> list[tuple[str, str]]:
    """(title, SVG): bytes against the loss, then the loss over the window if it was compared."""
    names = labels(evaluation)
    bundles = evaluation.bundles
    if evaluation.against is None:
        points = [
            Series(name, [(bundle.bytes / MB, bundle.perplexity)]) for name, bundle in zip(names, bundles, strict=True)
        ]
        title = "Bytes and perplexity"
        return [(title, plot(title, ("MB of the bundle", "perplexity"), points, joined=False))]
    compared = [
        (name, bundle.bytes / MB, bundle.divergence)
        for name, bundle in zip(names, bundles, strict=True)
        if bundle.divergence
    ]
    points = [Series(name, [(size, divergence.mean_kl)]) for name, size, divergence in compared]
    lines = [Series(name, divergence.kl_by_position) for name, _, divergence in compared]
    size, place = "Bytes and mean KL", "KL over the window"
    return [
        (size, plot(size, ("MB of the bundle", "mean KL, nats a token"), points, joined=False)),
        (place, plot(place, ("position in the window", "mean KL, nats a token"), lines, joined=True)),
    ]


def labels(evaluation: Evaluation) -> list[str]:
    """Recipes, or the names of the bundles where a recipe comes twice."""
    recipes = [bundle.recipe for bundle in evaluation.bundles]
    return recipes if len(set(recipes)) == len(recipes) else [bundle.bundle for bundle in evaluation.bundles]
