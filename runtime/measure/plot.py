"""Two kinds of plot as inline SVG: points, and lines over a range."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#3366cc", "#dc3912", "#109618", "#ff9900", "#990099", "#0099c6", "#dd4477", "#7a8b00")
WIDTH, HEIGHT = 760, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 540, 20, 310  # of the plotted area; the legend is to its right
TICKS = 5  # about


@dataclass(frozen=True)
class Axis:
    """From `least` to `most`, both multiples of `step`."""

    label: str
    least: float
    most: float
    step: float

    @classmethod
    def over(cls, label: str, values: Iterable[float]) -> Axis:
        """An axis with round ends that shows all finite values; from 0 where that wastes little."""
        shown = [value for value in values if math.isfinite(value)] or [0.0]
        low, high = min(shown), max(shown)
        low = min(low, 0.0) if low < high / 2 or low == high else low
        step = round_step(high - low)
        return cls(label, math.floor(low / step) * step, max(math.ceil(high / step), 1) * step, step)

    def place(self, value: float, start: float, end: float) -> float:
        return start + (value - self.least) / (self.most - self.least) * (end - start)

    @property
    def ticks(self) -> list[float]:
        return [self.least + i * self.step for i in range(round((self.most - self.least) / self.step) + 1)]


@dataclass(frozen=True)
class Series:
    name: str
    points: Sequence[tuple[float, float]]


def round_step(span: float) -> float:
    """1, 2 or 5 times a power of ten, so that a span has about TICKS steps."""
    if span <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(span / TICKS))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power * TICKS >= span * 0.999)


def plot(title: str, labels: tuple[str, str], series: Sequence[Series], *, joined: bool) -> str:
    """One SVG; `joined` draws a line through the points of a series."""
    x = Axis.over(labels[0], [point[0] for line in series for point in line.points])
    y = Axis.over(labels[1], [point[1] for line in series for point in line.points])
    drawn = [draw(line, COLOURS[i % len(COLOURS)], x, y, joined=joined) for i, line in enumerate(series)]
    legend = [legend_line(line.name, COLOURS[i % len(COLOURS)], TOP + 10 + 20 * i) for i, line in enumerate(series)]
    height = max(HEIGHT, TOP + 20 + 20 * len(series))
    return "\n".join(
        [
            f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" aria-label="{escape(title)}">',
            *grid(x, y),
            *drawn,
            *legend,
            "</svg>",
        ]
    )


def grid(x: Axis, y: Axis) -> list[str]:
    lines = []
    for value in x.ticks:
        at = x.place(value, LEFT, RIGHT)
        lines += [stroke(at, TOP, at, BOTTOM), text(at, BOTTOM + 18, f"{value:.6g}", "middle")]
    for value in y.ticks:
        at = y.place(value, BOTTOM, TOP)
        lines += [stroke(LEFT, at, RIGHT, at), text(LEFT - 8, at + 4, f"{value:.6g}", "end")]
    middle = (TOP + BOTTOM) / 2
    turned = f'<g transform="rotate(-90 14 {middle:g})">{text(14, middle, y.label, "middle")}</g>'
    return [*lines, text((LEFT + RIGHT) / 2, BOTTOM + 40, x.label, "middle"), turned]


def draw(series: Series, colour: str, x: Axis, y: Axis, *, joined: bool) -> str:
    """Values that are not finite have no place."""
    finite = [point for point in series.points if all(map(math.isfinite, point))]
    places = [(x.place(a, LEFT, RIGHT), y.place(b, BOTTOM, TOP)) for a, b in finite]
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    path = f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>' if joined else ""
    radius = 3 if joined else 6
    dots = [
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{radius}" fill="{colour}">'
        f"<title>{escape(series.name)}: {u:.6g}, {v:.6g}</title></circle>"
        for (a, b), (u, v) in zip(places, finite, strict=True)
    ]
    return path + "".join(dots)


def legend_line(name: str, colour: str, at: float) -> str:
    return f'<circle cx="{RIGHT + 24}" cy="{at - 4:g}" r="5" fill="{colour}"/>{text(RIGHT + 36, at, name, "start")}'


def stroke(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="currentColor" opacity=".15"/>'


def text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
