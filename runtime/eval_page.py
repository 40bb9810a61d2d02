"""An evaluation as one page of HTML that needs nothing else."""

from __future__ import annotations

from html import escape

from .evaluation import Evaluation, table
from .plot import Series, plot

MB = 1e6
STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #8884 }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left }
svg { max-width: 100%; height: auto }
svg text { font: 12px system-ui, sans-serif; fill: currentColor }
"""


def page(evaluation: Evaluation) -> str:
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>gemma-edge eval: {escape(evaluation.text)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(evaluation.text)}</h1>",
        f"<p>{escape(conditions(evaluation))}</p>",
        f'<div class="wide">{html_table(table(evaluation))}</div>',
        *(f"<h2>{escape(title)}</h2>\n{drawing}" for title, drawing in drawings(evaluation)),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def conditions(evaluation: Evaluation) -> str:
    found = evaluation
    said = (
        f"{found.windows} windows of {found.window_tokens} tokens, the second half of each scored: "
        f"{found.positions:,} positions, {found.threads} threads."
    )
    if found.against is None:
        return said
    return (
        f"{said} KL is that of {found.against} from the artifact, in nats a token; TV64 is the total "
        f"variation over the 64 tokens most likely for {found.against}."
    )


def html_table(rows: list[list[str]]) -> str:
    titles, *others = rows
    head = "".join(f"<th>{escape(cell)}</th>" for cell in titles)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in others)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def drawings(evaluation: Evaluation) -> list[tuple[str, str]]:
    """(title, SVG): bytes against the loss, then the loss over the window if it was compared."""
    names = labels(evaluation)
    bundles = evaluation.bundles
    if evaluation.against is None:
        points = [Series(name, [(one.bytes / MB, one.perplexity)]) for name, one in zip(names, bundles, strict=True)]
        title = "Bytes and perplexity"
        return [(title, plot(title, ("MB of the bundle", "perplexity"), points, joined=False))]
    found = [(name, one.bytes / MB, one.divergence) for name, one in zip(names, bundles, strict=True) if one.divergence]
    points = [Series(name, [(size, divergence.mean_kl)]) for name, size, divergence in found]
    lines = [Series(name, divergence.kl_by_position) for name, _, divergence in found]
    size, place = "Bytes and mean KL", "KL over the window"
    return [
        (size, plot(size, ("MB of the bundle", "mean KL, nats a token"), points, joined=False)),
        (place, plot(place, ("position in the window", "mean KL, nats a token"), lines, joined=True)),
    ]


def labels(evaluation: Evaluation) -> list[str]:
    """Recipes, or the names of the bundles where a recipe comes twice."""
    recipes = [one.recipe for one in evaluation.bundles]
    return recipes if len(set(recipes)) == len(recipes) else [one.bundle for one in evaluation.bundles]
