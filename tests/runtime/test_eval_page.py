"""The page of an evaluation: the figures, escaped, and nothing from elsewhere."""

from __future__ import annotations

import math

import msgspec
import pytest

from runtime.measure.eval_page import labels, page
from runtime.measure.evaluation import BundleQuality, Divergence, Evaluation, table

DIVERGENCE = Divergence(20.5, 0.0371, 1.25, 0.9375, 0.0456, [(256, 0.03), (272, 0.04)])
SMALL = BundleQuality("small.bundle", "int4", 1_234_567, 765_432, 21.125, DIVERGENCE)
LARGE = BundleQuality(
    "large.bundle", "int8", 2_345_678, 876_543, 20.625, msgspec.structs.replace(DIVERGENCE, mean_kl=0.001)
)
COMPARED = Evaluation("book.txt", 40, 512, 10200, 2, "gemma", [SMALL, LARGE])
ALONE = msgspec.structs.replace(
    COMPARED, against=None, bundles=[msgspec.structs.replace(one, divergence=None) for one in (SMALL, LARGE)]
)


def test_the_table_has_a_row_for_the_float_model_and_each_bundle():
    titles, model, *rows = table(COMPARED)
    assert titles[4:] == ["perplexity", "KL mean", "KL worst", "top-1", "TV64"]
    assert model[:5] == ["gemma", "checkpoint", "", "", "20.500"]
    small = ["small.bundle", "int4", "1,234,567", "765,432", "21.125", "0.0371", "1.25", "93.75%", "0.0456"]
    assert rows[0] == small
    assert {len(row) for row in table(COMPARED)} == {9}
    assert {len(row) for row in table(ALONE)} == {5}


@pytest.mark.parametrize(("evaluation", "plots"), [(COMPARED, 2), (ALONE, 1)])
def test_the_page_shows_all_figures_and_needs_nothing_else(evaluation, plots):
    made = page(evaluation)
    assert all(f">{cell}<" in made for row in table(evaluation) for cell in row)
    assert made.count("<svg ") == plots
    assert not any(word in made for word in ("http", "src=", "@import", "url(", "<script", "<link"))
    assert ("mean KL" in made) == (plots == 2)


def test_names_are_escaped():
    bad = msgspec.structs.replace(SMALL, bundle="<b>&.bundle", recipe='"><script>')
    made = page(msgspec.structs.replace(COMPARED, text="<i>.txt", against="<u>", bundles=[bad, bad]))
    assert not any(word in made for word in ("<b>", "<script>", "<i>", "<u>"))
    assert "&lt;b&gt;&amp;.bundle" in made


def test_bundles_of_one_recipe_are_told_apart():
    assert labels(COMPARED) == ["int4", "int8"]
    assert labels(msgspec.structs.replace(COMPARED, bundles=[SMALL, SMALL])) == ["small.bundle"] * 2


def test_an_infinite_perplexity_has_no_place_in_a_plot():
    lost = msgspec.structs.replace(ALONE.bundles[0], perplexity=math.inf)
    made = page(msgspec.structs.replace(ALONE, bundles=[lost, ALONE.bundles[1]]))
    assert ">inf<" in made
    assert "nan" not in made
