"""The model against transformers: the same random weights, float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.checkpoint.checkpoint import Checkpoint
from export.model.decoder import KV, TextDecoder
from export.reference import FloatSource, hidden_states, logits, tables, whole
from runtime.bundle.manifest import Rope
from tests import tiny

LENGTH = 3 * tiny.WINDOW + 40
TOLERANCE = 1e-4


def run(
    model: TextDecoder, source: FloatSource, ids: np.ndarray, pasts: list[KV], kept: int
) -> tuple[torch.Tensor, list[KV]]:
    """One call of the decoder: ids (S,) after the pasts, logits (kept, vocab) and the presents."""
    config = model.config
    at, count = pasts[0][0].shape[2], len(ids)
    positions = torch.arange(at, at + count)[None]
    edge = config.own_kv_layers * config.per_layer_dim
    rows = torch.from_numpy(source.rows("per_layer", ids))[None] if config.per_layer_dim else None
    ropes = [
        tables(Rope(theta=r.theta, head_dim=r.head_dim, rotated_pairs=r.rotated_pairs), 256) for _, r in config.ropes
    ]
    out, _, presents = model(
        torch.from_numpy(source.rows("tokens", ids))[None],
        None if rows is None else rows[..., :edge],
        None if rows is None or not config.shared_layers else rows[:, -kept:, edge:],
        positions,
        positions[:, -kept:],
        torch.arange(count - kept, count),
        ropes,
        pasts,
    )
    return out[0], presents


def nothing(model: TextDecoder) -> list[KV]:
    own = [layer for layer in model.config.layers if layer.owns_kv]
    empty = [torch.zeros(1, layer.kv_heads, 0, layer.head_dim) for layer in own]
    return [(rows, rows) for rows in empty]


@pytest.fixture(params=list(tiny.CONFIGS))
def pair(request, checkpoint):
    found = Checkpoint.open(checkpoint(request.param))
    source = FloatSource(found)
    return tiny.reference(request.param), whole(source), source


def test_whole_prompt_equals_transformers(pair):
    theirs, ours, source = pair
    ids = np.random.default_rng(2).integers(
        3, tiny.VOCAB, LENGTH
    )  # 0 meets a state where float32 itself is 1.4e-4 away
    expected = theirs(torch.from_numpy(ids)[None]).logits[0]
    found, _ = run(ours, source, ids, nothing(ours), LENGTH)
    assert expected.abs().max() > 1, "the weights are too small to prove anything"
    assert (found - expected).abs().max() <= TOLERANCE


def test_streamed_layers_equal_transformers(pair):
    theirs, ours, source = pair
    ids = np.random.default_rng(1).integers(3, tiny.VOCAB, LENGTH)
    expected = theirs(torch.from_numpy(ids)[None]).logits[0].numpy()
    found = logits(source, hidden_states(source, ids[None])[0])
    assert np.abs(found - expected).max() <= TOLERANCE


def test_steps_with_kv_only_prefill_equal_transformers(pair):
    theirs, ours, source = pair
    ids = np.random.default_rng(2).integers(3, tiny.VOCAB, LENGTH)
    expected = theirs(torch.from_numpy(ids)[None]).logits[0]
    found, pasts = run(ours, source, ids[:20], nothing(ours), 1)
    worst = (found[-1] - expected[19]).abs().max()
    for at in range(20, LENGTH):
        found, pasts = run(ours, source, ids[at : at + 1], pasts, 1)
        worst = max(worst, (found[-1] - expected[at]).abs().max())
    assert worst <= TOLERANCE


def test_greedy_tokens_equal_transformers(pair):
    theirs, ours, source = pair
    prompt = np.random.default_rng(3).integers(3, tiny.VOCAB, 12)
    expected = theirs.generate(torch.from_numpy(prompt)[None], max_new_tokens=64, do_sample=False, eos_token_id=None)[
        0, 12:
    ]
    found, pasts = run(ours, source, prompt, nothing(ours), 1)
    said = [int(found[-1].argmax())]
    while len(said) < 64:
        found, pasts = run(ours, source, np.array(said[-1:]), pasts, 1)
        said.append(int(found[-1].argmax()))
    assert said == expected.tolist()
