"""One layer of the released E2B, 12,288 inputs wide, calibrated in the memory of an ordinary laptop."""

from __future__ import annotations

import subprocess
import sys

import pytest

LAYER = 20  # the first of the double-wide ones reads keys and values of layer 13
CALIBRATE = """
import sys
from pathlib import Path

import numpy as np
import torch

from export.calibrate import layers as room
from export.calibrate.store import CalibrationKey, Store
from export.reference import FloatSource, load_layer
from export.synth.shapes import named_shape
from export.synth_bundle import generated
from export.weights.plan import storage_plan
from quantize.recipe import RECIPES
from runtime.machine.resident_memory import peak_rss

tokens, recipe, rng = 2048, RECIPES["int4"], np.random.default_rng(0)
with generated(named_shape("e2b")) as checkpoint, torch.no_grad():
    source, store = FloatSource(checkpoint), Store(Path(sys.argv[1]), CalibrationKey("", [], "", "", 0))
    config, layer = source.config, source.config.layers[int(sys.argv[2])]
    assert (layer.intermediate, layer.owns_kv) == (12_288, False)
    ids = np.zeros((tokens // 128, 128), np.int64)
    hidden = rng.standard_normal((*ids.shape, config.hidden), np.float32)
    store.save(f"hidden.{layer.index}", hidden)
    store.save("per_layer", np.zeros((len(config.layers), *ids.shape, config.per_layer_dim), np.float32))
    for name in ("key", "value"):
        shared = rng.standard_normal((len(ids), layer.kv_heads, 128, layer.head_dim), np.float32)
        store.save(f"{name}.{layer.source}", shared)
    module = load_layer(source, layer)
    inputs = room.observe(config, layer, module, ids, recipe, store)
    floats = {name: p.numpy().copy() for name, p in module.named_parameters()}
    del module
    weights = {weight.parameter: weight for weight in storage_plan(checkpoint, recipe).weights}
    losses = room.quantize_layer(config, layer, floats, inputs, recipe, weights, store)
    assert "int4/128" in losses
print(peak_rss())
"""


@pytest.mark.slow
def test_a_layer_of_e2b_takes_less_than_3_5_gigabytes(tmp_path):
    command = [sys.executable, "-c", CALIBRATE, str(tmp_path / "store"), str(LAYER)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 1e9 < int(done.stdout) < 3.5e9
