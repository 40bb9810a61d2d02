"""The float artifact in onnxruntime against transformers, over windows, chunks and steps."""

from __future__ import annotations

import os

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.bundle.bundle import Bundle
from runtime.engine import onnx
from runtime.engine.onnx import OnnxEngine
from runtime.engine.piece import Piece
from runtime.errors import GemmaError
from tests import tiny

RELATIVE = 1e-3
LENGTH = 120  # fifteen windows


@pytest.fixture(scope="module", params=list(tiny.CONFIGS))
def pair(request, bundle):
    return tiny.reference(request.param), OnnxEngine.open(Bundle.open(bundle(request.param)), threads=1)


def expected_logits(model, ids: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits: np.ndarray = model(torch.from_numpy(ids)[None]).logits[0].numpy()
    return logits


def relative(logits: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(logits - expected).max() / np.abs(expected).max())


def read(decoder: OnnxEngine, ids: np.ndarray, chunks: list[int]) -> list[tuple[int, np.ndarray]]:
    """(position, its logits) for every position, reading in chunks."""
    decoder.reset()
    answered, at = [], 0
    for size in chunks:
        piece = ids[at : at + size]
        logits = decoder.forward(Piece(piece, kept=len(piece))).logits.copy()
        answered += [(at + i, logits[i]) for i in range(len(piece))]
        at += len(piece)
    return answered


def test_greedy_tokens_equal_transformers_for_64_steps(pair):
    model, decoder = pair
    prompt = np.random.default_rng(3).integers(3, tiny.VOCAB, 12)
    expected = model.generate(torch.from_numpy(prompt)[None], max_new_tokens=64, do_sample=False, eos_token_id=None)
    decoder.reset()
    said = [int(decoder.prefill(prompt).logits[-1].argmax())]
    while len(said) < 64:
        said.append(int(decoder.forward(Piece(np.array(said[-1:]))).logits[-1].argmax()))
    assert said == expected[0, 12:].tolist()


@pytest.mark.parametrize("chunks", [[LENGTH], [1] * LENGTH, [20, 1, 1, 7, 1, 30, 1, 1, 40, 1, 1, 16]])
def test_every_kept_position_equals_transformers(pair, chunks):
    model, decoder = pair
    ids = np.random.default_rng(4).integers(3, tiny.VOCAB, LENGTH)
    expected = expected_logits(model, ids)
    assert all(relative(logits, expected[at]) <= RELATIVE for at, logits in read(decoder, ids, chunks))


@given(chunks=st.lists(st.integers(1, 40), min_size=1, max_size=12))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_chunks_give_the_logits_of_one_read(pair, chunks):
    model, decoder = pair
    ids = np.random.default_rng(5).integers(3, tiny.VOCAB, LENGTH)
    expected = expected_logits(model, ids)
    cut = np.minimum(np.cumsum(chunks), LENGTH)
    sizes = [int(b - a) for a, b in zip([0, *cut], cut, strict=False) if b > a]
    assert all(relative(logits, expected[at]) <= RELATIVE for at, logits in read(decoder, ids, sizes))


def test_small_chunks_of_a_long_prompt_keep_the_window_small(pair):
    model, whole = pair
    decoder = OnnxEngine(whole.weights, chunk=16)
    ids = np.random.default_rng(6).integers(3, tiny.VOCAB, 250)
    answered = decoder.prefill(ids).logits[-1]
    assert relative(answered, expected_logits(model, ids)[-1]) <= RELATIVE
    caches = decoder.caches()
    assert caches is not None
    rows = [cache.key.shape[2] for cache in caches if cache.spec.kind == "sliding"]
    assert max(rows) <= tiny.WINDOW + max(16, 64)


def test_rewind_goes_back_as_far_as_the_window_remembers(pair):
    model, decoder = pair
    ids = np.random.default_rng(7).integers(3, tiny.VOCAB, 60)
    other = np.random.default_rng(8).integers(3, tiny.VOCAB, 60)
    decoder.reset()
    decoder.prefill(ids)
    assert decoder.rewind(50)
    assert decoder.position == 50
    joined = np.concatenate([ids[:50], other[50:]])
    answered = decoder.forward(Piece(other[50:])).logits[-1]
    assert relative(answered, expected_logits(model, joined)[-1]) <= RELATIVE


def test_rewind_past_the_window_changes_nothing(pair):
    model, decoder = pair
    ids = np.random.default_rng(9).integers(3, tiny.VOCAB, 200)
    decoder.reset()
    for token in ids:
        decoder.forward(Piece(token[None]))
    assert not decoder.rewind(3)
    assert decoder.position == 200
    answered = decoder.forward(Piece(np.array([5]))).logits[-1]
    assert relative(answered, expected_logits(model, np.append(ids, 5))[-1]) <= RELATIVE


def test_the_context_limit_is_said_before_anything_is_read(pair):
    _, decoder = pair
    decoder.reset()
    decoder.prefill(np.full(250, 7))
    with pytest.raises(GemmaError, match="260 tokens are more than the artifact's context, 256"):
        decoder.forward(Piece(np.full(10, 7)))
    assert decoder.position == 250


def test_hidden_states_are_an_output_beside_the_logits(pair):
    model, decoder = pair
    ids = np.random.default_rng(10).integers(3, tiny.VOCAB, 20)
    decoder.reset()
    step = decoder.forward(Piece(ids, kept=20))
    hidden = model.model(torch.from_numpy(ids)[None]).last_hidden_state[0].numpy()
    assert relative(step.hidden, hidden) <= RELATIVE


def test_int8_caches_are_read_without_tiles(bundle, monkeypatch):
    folders = [bundle("sample", recipe) for recipe in ("int4-datafree", "float")]
    seen = []

    def watched(path, options):
        seen.append(os.environ.get(onnx.TILES))
        return onnx.opened(path, options)

    for folder in folders:
        onnx.load(Bundle.open(folder), 1, lambda: None, watched)
    monkeypatch.setenv(onnx.TILES, "0")
    onnx.load(Bundle.open(folders[0]), 1, lambda: None, watched)
    assert seen == ["1", None, "0"]
    assert os.environ[onnx.TILES] == "0"


@pytest.mark.parametrize(("kleidiai", "entry"), [(False, "1"), (True, "")])
def test_a_bundle_may_do_without_kleidiai(bundle, kleidiai, entry):
    opened_bundle, seen = Bundle.open(bundle("gemma3")), []
    artifacts = opened_bundle.manifest.artifacts
    artifacts["onnx"] = msgspec.structs.replace(artifacts["onnx"], kleidiai=kleidiai)

    def watched(path, options):
        try:
            seen.append(options.get_session_config_entry(onnx.PLAIN_ARM))
        except RuntimeError:  # there is no such entry
            seen.append("")
        return onnx.opened(path, options)

    onnx.load(opened_bundle, 1, lambda: None, watched)
    assert seen == [entry]
