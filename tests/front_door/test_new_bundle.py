"""What no bundle can be made of, or with."""

from __future__ import annotations

import pytest

from gemma_edge import GemmaError, RequestError, export_bundle


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"source": 5}, "source must be a text or a Path, not 5"),
        ({"destination": None}, "destination must be a text or a Path, not None"),
        ({"recipe": 5}, "recipe must be the name of a recipe, not 5"),
        ({"recipe": ["int4"]}, "recipe must be the name of a recipe, not .*int4"),
        ({"targets": 5}, "targets must be a list of names, not 5"),
        ({"targets": []}, "targets must be a list of names, not "),
        ({"targets": [5]}, "targets must be a list of names, not .5"),
        ({"calibrate": 5}, "calibrate must be a text or a Path, not 5"),
        ({"replace": "yes"}, "replace must be True or False, not 'yes'"),
        ({"accept_loss": 1}, "accept_loss must be True or False, not 1"),
    ],
)
def test_arguments_of_another_type(tmp_path, words, said):
    with pytest.raises(RequestError, match=said):
        export_bundle(**{"source": tmp_path, "destination": tmp_path / "x.bundle", **words})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"recipe": "int5"}, "unknown recipe: int5"),
        ({"targets": "onyx"}, "onyx"),
        ({"source": "no/such/folder"}, "such"),
    ],
)
def test_names_that_there_are_not(tmp_path, words, said):
    sample = "tests/sample/checkpoint"
    with pytest.raises(GemmaError, match=said):
        export_bundle(**{"source": sample, "destination": tmp_path / "x.bundle", **words})
    assert list(tmp_path.iterdir()) == []
