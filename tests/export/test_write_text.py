"""The text that the model writes: its own distribution, its own template, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.calibrate.amounts import TextAmounts
from export.calibrate.speak import TurnTexts, steps, turn_texts, write
from export.checkpoint.checkpoint import Checkpoint
from export.language.side_files import read_side_files
from export.reference import FloatSource, hidden_states
from runtime.language.tokenizer import Tokenizer
from tests import tiny
from tests.conftest import SAMPLE

PLAIN = TurnTexts((2,), ((2,),), frozenset((1,)))


@pytest.fixture(scope="module")
def speaker():
    return Tokenizer(SAMPLE / "tokenizer.json", 2, SAMPLE / "chat_template.jinja")


@pytest.mark.parametrize("name", tiny.CONFIGS)
@pytest.mark.parametrize("kept", [0, TextAmounts.layer_bytes])
def test_each_step_sees_what_the_float_model_sees(checkpoint, name, kept):
    source = FloatSource(Checkpoint.open(checkpoint(name)))
    drafts = np.random.default_rng(0).integers(3, tiny.VOCAB, (3, 30))
    with torch.no_grad():
        logits = np.stack([step.numpy() for step in steps(source, drafts, 4, 30, kept)], 1)
    expected = hidden_states(source, drafts)[:, 3:-1]
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()


def test_the_same_seed_writes_the_same_text(checkpoint):
    source = FloatSource(Checkpoint.open(checkpoint("e2b")))
    first, again, other = (write(source, PLAIN, 4, 24, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len({tuple(row) for row in first.tolist()}) == 4


def test_a_model_with_a_template_writes_both_sides_of_a_conversation(speaker):
    checkpoint = Checkpoint.open(SAMPLE)
    source, stop = FloatSource(checkpoint), read_side_files(checkpoint)[0].generation.stop
    drafts = write(source, turn_texts(speaker, stop), 4, 96, 0)
    for row in drafts:
        text = speaker.pieces.decode(row.tolist(), skip_special_tokens=False)
        assert text.startswith("<bos><|turn>user\n")
        turns = [turn.split("\n")[0] for turn in text.split("<|turn>")[1:]]
        assert turns[:3] == ["user", "model", "user"]


def test_a_model_without_a_template_writes_documents(speaker):
    plain = Tokenizer(SAMPLE / "tokenizer.json", speaker.bos, None)
    assert turn_texts(plain, [1, 106]) == TurnTexts((speaker.bos,), ((speaker.bos,),), frozenset((1, 106)))
