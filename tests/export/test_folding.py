"""Folding leaves the float model as it was, whatever the layers are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from export.calibrate.folding import INPUTS, fold_layer, folds_values
from export.checkpoint.checkpoint import Checkpoint
from export.reference import FloatSource, hidden_states, load_layer, logits
from tests import tiny


@dataclass(frozen=True)
class Folded(FloatSource):
    """A checkpoint's values with channels folded by random factors."""

    seed: int = 0
    layers: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)

    def floats(self, parameter):
        parts = parameter.split(".", 2)
        if parts[0] != "layers":
            return super().floats(parameter)
        index = int(parts[1])
        if index not in self.layers:
            self.layers[index] = self.folded(index)
        return self.layers[index][parts[2]]

    def folded(self, index):
        rng = np.random.default_rng((self.seed, index))
        layer, source = self.config.layers[index], FloatSource(self.checkpoint)
        floats = {name: p.numpy().copy() for name, p in load_layer(source, layer).named_parameters()}
        widths = {name: floats[f"{linears[0]}.weight"].shape[1] for name, linears in INPUTS.items()}
        moments = {name: np.exp(2 * rng.standard_normal(width)).astype(np.float32) for name, width in widths.items()}
        factors = fold_layer(self.config, layer, floats, moments)
        assert all(np.ptp(found) > 0.5 for found in factors.values())
        return floats


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_the_float_model_says_the_same(checkpoint, name):
    found = Checkpoint.open(checkpoint(name))
    ids = np.random.default_rng(1).integers(3, tiny.VOCAB, (2, 40))
    before, after = (
        logits(source, hidden_states(source, ids).reshape(80, -1))
        for source in (FloatSource(found), Folded(found, seed=2))
    )
    assert np.linalg.norm(after - before) <= 1e-5 * np.linalg.norm(before)


def test_values_fold_where_no_norm_and_no_other_reader_is_between(checkpoint):
    where = {
        name: {folds_values(config, layer) for layer in config.layers}
        for name in tiny.CONFIGS
        for config in [Checkpoint.open(checkpoint(name)).config]
    }
    assert where == {"e2b": {False}, "e4b": {False}, "31b": {False}, "gemma3": {True}}


def test_an_input_that_was_never_seen_folds_nothing_away(checkpoint):
    found = Checkpoint.open(checkpoint("e2b"))
    layer = found.config.layers[0]
    floats = {name: p.numpy().copy() for name, p in load_layer(FloatSource(found), layer).named_parameters()}
    moments = {name: np.zeros(floats[f"{linears[0]}.weight"].shape[1], np.float32) for name, linears in INPUTS.items()}
    before = {name: value.copy() for name, value in floats.items()}
    fold_layer(found.config, layer, floats, moments)
    assert all(np.array_equal(floats[name], before[name]) for name in floats)
