"""Tokens come as often as their logits say, wherever in the vocabulary they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.calibrate.draw import BLOCK, ROWS, draw

COUNT = 20_000


def frequencies(logits: torch.Tensor, cap: float = 0.0, dtype: torch.dtype = torch.float32) -> np.ndarray:
    """Of a head of one input."""
    drawn = draw(torch.ones(COUNT, 1), logits[:, None].to(dtype), cap, torch.Generator().manual_seed(3))
    return np.bincount(drawn, minlength=len(logits)) / COUNT


@pytest.mark.parametrize("vocab", [5, BLOCK, ROWS + BLOCK + 7])
def test_tokens_come_as_often_as_the_model_expects(vocab):
    logits = torch.full((vocab,), -100.0)
    places = torch.linspace(0, vocab - 1, 4).long()
    shares = torch.tensor([0.5, 0.3, 0.15, 0.05])
    logits[places] = shares.log()
    found = frequencies(logits)
    assert np.abs(found[places] - shares.numpy()).max() < 0.015
    assert found[places].sum() == pytest.approx(1)


def test_the_cap_and_a_16_bit_head_are_in_effect():
    logits = torch.linspace(-60, 60, 100)
    found = frequencies(logits, cap=3.0, dtype=torch.bfloat16)
    expected = (torch.tanh(logits.bfloat16().float() / 3) * 3).softmax(0).numpy()
    assert np.abs(found - expected).max() < 0.01


def test_rows_are_drawn_from_their_own_logits():
    hidden, head = torch.eye(3), torch.full((ROWS + 70, 3), -50.0)
    for row, token in enumerate((7, ROWS - 1, ROWS + 69)):
        head[token, row] = 50.0
    assert draw(hidden, head, 0.0, torch.Generator()) == [7, ROWS - 1, ROWS + 69]
