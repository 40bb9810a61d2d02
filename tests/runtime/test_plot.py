"""Plots: round axes, points where they belong, words escaped."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from runtime.measure.plot import BOTTOM, LEFT, RIGHT, TOP, Axis, Series, plot, round_step


@pytest.mark.parametrize(("span", "step"), [(10, 2), (1, 0.2), (0.38, 0.1), (700, 200), (3e-7, 1e-7), (0, 1)])
def test_steps_are_round(span, step):
    assert round_step(span) == pytest.approx(step)


@pytest.mark.parametrize(
    ("values", "least", "most"),
    [
        ([1.0, 9.0], 0, 10),
        ([24.1, 24.9], 24, 25),
        ([5.0], 0, 5),
        ([0.0, 0.0], 0, 1),
        ([math.inf, 1.0, 2.0], 1, 2),
        ([math.inf], 0, 1),
    ],
)
def test_an_axis_holds_its_values_between_round_ends(values, least, most):
    axis = Axis.over("x", values)
    assert (axis.least, axis.most) == pytest.approx((least, most))
    assert axis.ticks[0] == axis.least
    assert axis.ticks[-1] == pytest.approx(axis.most)


def test_points_are_where_their_values_are():
    drawn = ElementTree.fromstring(
        plot("t", ("x", "y"), [Series("a", [(0.0, 0.0), (10.0, 100.0), (5.0, math.inf)])], joined=True)
    )
    dots = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in drawn.iter("circle") if dot.get("r") == "3"]
    assert dots == [(LEFT, BOTTOM), (RIGHT, TOP)]
    assert len(list(drawn.iter("polyline"))) == 1


def test_all_words_are_escaped():
    made = plot('"<t>', ("<x>", "<y>"), [Series("<script>&", [(1.0, 2.0)])], joined=False)
    assert "<script>" not in made
    words = "".join(ElementTree.fromstring(made).itertext())
    assert all(word in words for word in ("<script>&", "<x>", "<y>"))
