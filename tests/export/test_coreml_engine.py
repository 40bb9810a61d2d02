"""The saved package, run in numpy, against the model over the values that its integers stand for."""

from __future__ import annotations

import sys

import msgspec
import numpy as np
import pytest
import torch

from tests import tiny

pytest.importorskip("coremltools", reason="the extra coreml is not installed")

from export.checkpoint.checkpoint import Checkpoint
from export.prove.compare import kl
from export.reference import QuantizedSource, hidden_states, logits
from export.to_coreml.engine import CoreMLEngine, mask
from export.weights.linears import quantize_weights
from export.weights.plan import storage_plan
from quantize.recipe import RECIPES
from runtime.bundle.bundle import Bundle
from runtime.engine.contract import open_head, open_tables
from runtime.engine.piece import Piece
from runtime.errors import GemmaError

RECIPE = {"e2b": "int4-datafree", "e4b": "int8", "31b": "int4-datafree", "gemma3": "float"}
PROMPTS, STEPS = (1, 7, 8, 9, 33), 64


@pytest.fixture(scope="module", params=list(tiny.CONFIGS))
def pair(request, checkpoint, coreml_bundle, tmp_path_factory):
    """A bundle, and the model of the values that its integers stand for."""
    recipe = RECIPES[RECIPE[request.param]]
    bundle = Bundle.open(coreml_bundle(request.param, recipe.name))
    outputs = Checkpoint.open(checkpoint(request.param))
    weights, _ = quantize_weights(outputs, storage_plan(outputs, recipe), tmp_path_factory.mktemp("weights"))
    tables = open_tables(bundle)
    return bundle, QuantizedSource(outputs.config, weights, tables, open_head(bundle, tables))


def prompt(length: int) -> np.ndarray:
    return np.random.default_rng(length).integers(3, tiny.VOCAB, length)


def greedy(decoder: CoreMLEngine, start: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """All ids, and the logits (steps, vocab) that chose the new ones."""
    decoder.reset()
    ids, rows = start.tolist(), [decoder.prefill(start).logits[-1]]
    while len(rows) < steps:
        ids.append(int(rows[-1].argmax()))
        rows.append(decoder.forward(Piece(np.array(ids[-1:]))).logits[-1])
    return np.array(ids), np.stack(rows)


def relative(outputs: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(outputs - expected).max() / np.abs(expected).max())


@pytest.mark.slow
def test_greedy_tokens_and_logits_equal_the_model_of_its_integers(pair):
    bundle, source = pair
    decoder = CoreMLEngine.open(bundle, "float32")
    for length in PROMPTS:
        ids, outputs = greedy(decoder, prompt(length), STEPS)
        expected = logits(source, hidden_states(source, ids[None])[0][length - 1 :])
        assert relative(outputs, expected) < 1e-4
        assert np.array_equal(outputs.argmax(-1), expected.argmax(-1))


@pytest.mark.slow
def test_float16_stays_close(pair, record_property):
    """Fed with a text; a tiny random model is the harsher case."""
    bundle, source = pair
    decoder, ids = CoreMLEngine.open(bundle, "float16"), prompt(60)
    outputs = np.concatenate([decoder.forward(Piece(ids[:30])).logits, decoder.forward(Piece(ids[30:], 30)).logits])
    expected = logits(source, hidden_states(source, ids[None])[0][29:])
    divergence, agreed = kl(expected, outputs), (outputs.argmax(-1) == expected.argmax(-1)).mean()
    record_property("top-1", float(agreed))
    print(f"{bundle.folder.name}: top-1 {agreed:.1%}, KL {divergence.mean():.3g} (worst {divergence.max():.3g})")
    assert agreed >= 0.95
    assert divergence.mean() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [[16, 16, 16], [5, 17, 1, 1, 24], [48]])
def test_calls_of_many_leave_what_calls_of_one_leave(pair, chunks):
    """Past the window's end, past the sliding state's 32 rows, and with padding before another call."""
    bundle, _ = pair
    decoder, ids = CoreMLEngine.open(bundle, "float32"), prompt(49)
    expected = [decoder.forward(Piece(ids[i : i + 1])).logits[0] for i in range(49)]
    alone = decoder.save()
    decoder.reset()
    at = 0
    for count in [*chunks, 1]:
        at += count
        assert relative(decoder.forward(Piece(ids[at - count : at])).logits[0], expected[at - 1]) < 1e-4
    for name in ("sliding_key", "sliding_value"):
        assert relative(decoder.states[name], alone.states[name]) < 1e-4


@pytest.mark.slow
def test_kept_positions_are_the_last_ones(coreml_bundle):
    decoder, ids = CoreMLEngine.open(Bundle.open(coreml_bundle("e2b", "int4-datafree"))), prompt(20)
    whole = decoder.prefill(ids, kept=4)
    assert whole.logits.shape == (4, tiny.VOCAB)
    assert whole.hidden.shape == (4, decoder.model.hidden_size)
    decoder.reset()
    decoder.prefill(ids[:17])
    for row in whole.logits[1:]:
        at = decoder.position
        assert relative(decoder.forward(Piece(ids[at : at + 1])).logits[0], row) < 1e-4


def test_going_back_and_coming_back(coreml_bundle):
    decoder, ids = CoreMLEngine.open(Bundle.open(coreml_bundle("e2b", "int4-datafree"))), prompt(50)
    decoder.prefill(ids[:40])
    saved = decoder.save()
    expected = decoder.forward(Piece(ids[40:41])).logits.copy()
    decoder.prefill(ids[41:])
    assert decoder.rewind(40)
    assert relative(decoder.forward(Piece(ids[40:41])).logits, expected) < 1e-5
    decoder.restore(saved)
    assert relative(decoder.forward(Piece(ids[40:41])).logits, expected) < 1e-5
    decoder.prefill(ids[41:])
    assert not decoder.rewind(10)  # its window is gone
    assert decoder.position == 50
    assert decoder.rewind(0)


@pytest.mark.slow
def test_the_end_of_the_context_is_read_one_by_one_and_then_refused(coreml_bundle):
    decoder = CoreMLEngine.open(Bundle.open(coreml_bundle("31b", "int4-datafree")))
    ids = np.tile(prompt(64), 4)
    outputs = decoder.forward(Piece(ids[:250])).logits
    assert np.isfinite(outputs).all()
    decoder.forward(Piece(ids[250:]))
    assert decoder.position == decoder.model.context == 256
    with pytest.raises(GemmaError, match="more than the artifact's context, 256"):
        decoder.forward(Piece(ids[:1]))


def test_logits_that_are_not_finite_are_refused(coreml_bundle):
    """Embeddings that are too large for any float."""
    bundle = Bundle.open(coreml_bundle("e2b", "int4-datafree"))
    tokens = msgspec.structs.replace(bundle.manifest.tables["tokens"], multiplier=float("inf"))
    manifest = msgspec.structs.replace(bundle.manifest, tables=bundle.manifest.tables | {"tokens": tokens})
    decoder = CoreMLEngine.open(Bundle(bundle.folder, manifest))
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(GemmaError, match="not finite"):
        decoder.forward(Piece(prompt(1)))


def test_a_bundle_without_the_artifact_is_refused(bundle):
    with pytest.raises(GemmaError, match="has no Core ML artifact; it has onnx"):
        CoreMLEngine.open(Bundle.open(bundle("e2b")))


def test_a_mask_lets_a_query_see_its_window():
    seen = mask("sliding", 3, 2, 4, 3) == 0  # columns: positions -1, 0, 1, 2, then 3, 4
    assert seen.astype(int).tolist() == [[0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1]]
    seen = mask("full", 2, 2, 4, 3) == 0  # columns: positions 0 to 3 of which two are known, then 2, 3
    assert seen.astype(int).tolist() == [[1, 1, 0, 0, 1, 0], [1, 1, 0, 0, 1, 1]]


@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML itself runs on macOS only")
def test_core_ml_answers_what_the_evaluator_does(coreml_bundle):
    import coremltools

    bundle = Bundle.open(coreml_bundle("e2b", "int4-datafree"))
    decoder, package = CoreMLEngine.open(bundle, "float16"), bundle.folder / "coreml" / "decoder.mlpackage"
    units = coremltools.ComputeUnit.CPU_AND_GPU
    models = {
        name: coremltools.models.MLModel(str(package), function_name=name, compute_units=units)
        for name in ("prefill", "decode")
    }
    state, ids = models["decode"].make_state(), prompt(20)
    for start, stop in [(0, 16), *((i, i + 1) for i in range(16, 20))]:
        feeds = decoder._feeds(Piece(ids[start:stop]))
        named = {value.name for value in decoder.program.functions["prefill" if stop - start > 1 else "decode"].ends}
        function = models["prefill" if stop - start > 1 else "decode"]
        outputs = function.predict({name: one for name, one in feeds.items() if name in named}, state)["logits"]
        expected = decoder._call(Piece(ids[start:stop]))[0]
        assert kl(expected, torch.from_numpy(outputs[0]).numpy()).max() < 1e-2
