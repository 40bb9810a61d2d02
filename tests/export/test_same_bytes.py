"""The bytes of a bundle that no processor changes, as they were: a change of these was meant, or is a mistake.

`make golden` writes them, tests/golden/bundle_bytes.json, again.  Scales of caches, parity.json and golden.json are
measured, and are not here; the graphs hold the scales.
"""

from __future__ import annotations

import json

import pytest

from tests.bundle_bytes import GOLDEN, RECIPES_HELD, hashes

KINDS = ("tables/", "tokenizer.json", "vocabulary.bin", "chat_template.jinja", "linears")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES_HELD)
def test_the_sample_has_the_bytes_that_it_had(recipe, tmp_path):
    expected = json.loads(GOLDEN.read_text())[recipe]
    assert {kind for kind in KINDS if any(name.startswith(kind) for name in expected)} == set(KINDS)
    assert hashes(recipe, tmp_path) == expected
