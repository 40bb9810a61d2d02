"""Perplexity by the rule of llama-perplexity, against transformers and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from runtime.bundle.bundle import Bundle
from runtime.engine.contract import Step
from runtime.engine.onnx import OnnxEngine
from runtime.engine.piece import Piece
from runtime.errors import GemmaError
from runtime.measure.perplexity import Windows, cut, nats, perplexity, score, scored_logits
from tests import tiny

TOKENS = 64


@pytest.fixture(scope="module")
def windows():
    ids = np.random.default_rng(5).integers(107, 363, 3 * TOKENS + 9)
    return cut(ids.tolist(), 2, TOKENS, 40)


def transformers_perplexity(name: str, windows: Windows) -> float:
    logits = tiny.reference(name)(torch.from_numpy(windows.ids)).logits
    half = TOKENS // 2
    losses = torch.nn.functional.cross_entropy(
        logits[:, half:-1].flatten(0, 1), torch.from_numpy(windows.ids[:, half + 1 :]).flatten()
    )
    return math.exp(losses)


@pytest.mark.parametrize("name", ["e2b", "gemma3"])
def test_the_float_bundle_has_the_perplexity_of_transformers(bundle, windows, name):
    decoder = OnnxEngine.open(Bundle.open(bundle(name)), threads=1)
    assert score(decoder, windows) == pytest.approx(transformers_perplexity(name, windows), rel=1e-4)


def test_windows_are_whole_begin_with_bos_and_are_limited():
    found = cut(list(range(10, 33)), 2, 8, 40)
    assert found.ids.tolist() == [[2, 11, 12, 13, 14, 15, 16, 17], [2, 19, 20, 21, 22, 23, 24, 25]]
    assert (found.count, found.tokens, found.first, found.scored) == (2, 8, 4, 3)
    assert found.following(1, 4, 3).tolist() == [23, 24, 25]
    assert cut(list(range(23)), 2, 8, 1).count == 1


@pytest.mark.parametrize(("tokens", "scored"), [(4, 1), (5, 2), (512, 255)])
def test_the_second_half_is_scored_but_for_its_last_token(tokens, scored):
    assert cut(list(range(tokens)), 2, tokens, 1).scored == scored


def test_surprise_is_that_of_the_token_that_came():
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], np.float32))
    assert nats(logits, np.array([1, 2])) == pytest.approx([math.log(4), math.log(1.25)], rel=1e-6)


def test_perplexity_of_more_nats_than_a_float_holds_is_infinite():
    assert perplexity(math.log(7)) == pytest.approx(7)
    assert perplexity(1000.0) == math.inf


@pytest.mark.parametrize("chunk", [7, 32, 50, 63])
def test_windows_longer_than_a_chunk_are_read_in_chunks(bundle, windows, chunk):
    decoder = OnnxEngine.open(Bundle.open(bundle("e2b")), threads=1)
    ((position, whole),) = list(scored_logits(decoder, windows, 1))
    pieces = [(at, logits.copy()) for at, logits in scored_logits(decoder, windows, 1, chunk)]
    assert position == pieces[0][0] == windows.first
    assert [at for at, _ in pieces] == (windows.first + np.cumsum([0, *(len(p) for _, p in pieces)])[:-1]).tolist()
    assert np.concatenate([logits for _, logits in pieces]) == pytest.approx(whole, abs=1e-3)


class WithoutNumbers(OnnxEngine):
    """Gives NaN for the last position but one of each call."""

    def forward(self, piece: Piece) -> Step:
        step = super().forward(piece)
        step.logits[-2] = np.nan
        return step


def test_logits_that_are_not_numbers_are_refused(bundle, windows):
    decoder = WithoutNumbers.open(Bundle.open(bundle("e2b")), threads=1)
    with pytest.raises(GemmaError, match="window 0: logits from position 32 on are NaN"):
        score(decoder, windows)
