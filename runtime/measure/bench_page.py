"""A benchmark as one page of HTML: rates, memory and bandwidth over the context."""

from __future__ import annotations

from .bench import At, Figures
from .page import document
from .plot import Series, plot

TITLES = ["context", "prefill, tokens/s", "decode, tokens/s", "read, GB/s", "of the limit", "peak, MB", "planned, MB"]


def page(name: str, figures: Figures) -> str:
    return document("bench", name, conditions(figures), table(figures), drawings(figures))


def conditions(figures: Figures) -> str:
    s = figures.settings
    return (
        f"After each context a prompt of {s.prompt_tokens} tokens and {s.new_tokens} new ones, {s.threads} threads, "
        f"medians of {s.repeat} repetitions (least to most). Loaded in {figures.load_s:.2f} s. "
        f"A step reads all weights and the caches; {figures.bandwidth_gb_s:.1f} GB/s is what as many threads read "
        "from memory on this machine in the same run, and so the limit."
    )


def table(figures: Figures) -> list[list[str]]:
    return [TITLES, *(row(at, figures.bandwidth_gb_s) for at in figures.contexts)]


def row(at: At, limit: float) -> list[str]:
    return [
        f"{at.context:,}",
        f"{at.prefill_tok_s:.1f} ({spread(at.prefill_spread)})",
        f"{at.decode_tok_s:.1f} ({spread(at.decode_spread)})",
        f"{at.read_gb_s:.2f}",
        f"{at.read_gb_s / limit:.0%}",
        f"{at.peak_rss_bytes / 1e6:,.0f}",
        f"{at.planned_bytes / 1e6:,.0f}",
    ]


def spread(least_most: tuple[float, float]) -> str:
    return f"{least_most[0]:.1f} to {least_most[1]:.1f}"


def drawings(figures: Figures) -> list[tuple[str, str]]:
    """(title, SVG), each over the context."""

    def line(name: str, pick: str, unit: float = 1.0) -> Series:
        return Series(name, [(at.context, getattr(at, pick) / unit) for at in figures.contexts])

    limit = Series("limit", [(at.context, figures.bandwidth_gb_s) for at in figures.contexts])
    shown = {
        "Decode": ("tokens/s", [line("decode", "decode_tok_s")]),
        "Prefill": ("tokens/s", [line("prefill", "prefill_tok_s")]),
        "Memory": ("MB", [line("measured", "peak_rss_bytes", 1e6), line("planned", "planned_bytes", 1e6)]),
        "Reads of a step": ("GB/s", [line("weights and caches", "read_gb_s"), limit]),
    }
    return [
        (title, plot(title, ("tokens of context", unit), series, joined=True))
        for title, (unit, series) in shown.items()
    ]
