"""Pieces of a prompt: cut, checked, and with soft tokens read as transformers reads them."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.bundle.bundle import Bundle
from runtime.engine.onnx import OnnxEngine, OnnxWeights
from runtime.engine.piece import Piece, SoftTokens, in_calls
from runtime.errors import GemmaError
from tests import soft

RELATIVE = 1e-3


@pytest.fixture(scope="module", params=["e2b", "e4b", "31b"])
def pair(request, bundle):
    return request.param, OnnxWeights(Bundle.open(bundle(request.param)), threads=1)


@pytest.mark.parametrize("sizes", [[60], [20, 23, 17], [7, 20, 30, 3], [25, 1, 1, 33]])
def test_soft_tokens_are_read_as_transformers_reads_them(pair, sizes):
    """The boundaries of the calls fall before, inside and behind the soft span."""
    name, weights = pair
    piece, engine, start = soft.prompt(name), weights.engine(), 0
    expected, logits = soft.expected_logits(name, piece), []
    for size in sizes:
        logits.append(engine.forward(piece.part(start, start + size, size)).logits.copy())
        start += size
    assert soft.relative(np.concatenate(logits), expected) <= RELATIVE


@pytest.mark.parametrize("most", [8, 16, 256])
def test_a_prompt_that_is_cut_ends_as_the_whole_one_does(pair, most):
    name, weights = pair
    piece = soft.prompt(name, seed=1)
    engine = OnnxEngine(weights, chunk=most)
    parts = list(in_calls(Piece(piece.ids, 3, piece.soft), 0, most))
    steps = [engine.forward(part).logits.copy() for part in parts]
    assert [len(part.ids) for part in parts][:-1] == [most] * (len(parts) - 1)
    assert soft.relative(steps[-1], soft.expected_logits(name, piece)[-3:]) <= RELATIVE


def test_the_id_in_the_place_of_a_soft_token_is_never_looked_up(pair):
    name, weights = pair
    piece = soft.prompt(name)
    assert piece.soft
    other = piece.ids.copy()
    other[piece.soft.places] = 10_000_000
    steps = [weights.engine().forward(Piece(ids, 5, piece.soft)).logits.copy() for ids in (piece.ids, other)]
    assert np.array_equal(*steps)


def with_soft(places: list[int], width: int, rows: int) -> Piece:
    return Piece(np.arange(4), 1, SoftTokens(np.array(places), np.zeros((rows, width), np.float32)))


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        (Piece(np.arange(257)), "257 tokens are more than the model's context, 256"),
        (Piece(np.arange(0)), "logits of 1 tokens were asked for"),
        (Piece(np.arange(4), kept=5), "logits of 5 tokens were asked for, and the piece has 4"),
        (Piece(np.arange(4), groups=[(1, 3)]), "cannot let tokens see later ones"),
        (with_soft([1], 63, 1), r"of shape \(1, 63\) for 1"),
        (with_soft([1, 2], 64, 1), r"\(1, 64\) for 2 places"),
        (with_soft([4], 64, 1), r"at the places \[4\] of 4"),
        (with_soft([-1], 64, 1), r"at the places \[-1\]"),
        (with_soft([2, 2], 64, 2), r"at the places \[2, 2\]"),
    ],
)
def test_a_piece_that_can_not_be_read_is_refused_and_changes_nothing(pair, piece, message):
    engine = pair[1].engine()
    with pytest.raises(GemmaError, match=message):
        engine.forward(piece)
    assert engine.position == 0


def test_a_group_is_not_cut():
    piece = Piece(np.arange(20), groups=[(3, 9), (12, 16)])
    assert piece.part(3, 10).groups == [(0, 6)]
    assert piece.part(9, 12).groups == []
    with pytest.raises(GemmaError, match="would cut a group"):
        list(in_calls(piece, 0, 8))


def test_parts_have_their_soft_tokens():
    rows = np.arange(3, dtype=np.float32)[:, None] * np.ones(4, np.float32)
    piece = Piece(np.arange(10), 1, SoftTokens(np.array([2, 3, 7]), rows))
    part = piece.part(3, 8)
    assert part.soft
    assert (part.soft.places.tolist(), part.soft.rows[:, 0].tolist()) == ([0, 4], [1, 2])
    assert part.row_ids.tolist() == [0, 4, 5, 6, 0]
    assert piece.part(4, 7).soft is None
