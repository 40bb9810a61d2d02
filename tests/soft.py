"""Soft tokens in a prompt, and what transformers makes of them."""

from __future__ import annotations

import numpy as np
import torch

from runtime.engine.piece import Piece, SoftTokens
from tests import tiny

LENGTH, FIRST, LAST = 60, 20, 43  # the soft span is longer than two windows


def prompt(name: str, seed: int = 0) -> Piece:
    """Tokens with a span of random rows as large as embeddings are; the ids in their places stand for nothing."""
    draw = np.random.default_rng(seed)
    ids, places = draw.integers(3, tiny.VOCAB, LENGTH), np.arange(FIRST, LAST)
    hidden = tiny.CONFIGS[name]["hidden_size"]
    return Piece(ids, 1, SoftTokens(places, draw.normal(size=(len(places), hidden)).astype(np.float32)))


def expected_logits(name: str, piece: Piece) -> np.ndarray:
    """(tokens, vocab): transformers reads the rows as inputs_embeds, and token 0 as their per-layer identity."""
    model = tiny.reference(name)
    assert piece.soft
    ids = torch.from_numpy(piece.ids.copy())
    assert model.config.pad_token_id is not None
    ids[piece.soft.places] = model.config.pad_token_id
    embeddings = model.model.embed_tokens(ids[None])
    embeddings[0, piece.soft.places] = torch.from_numpy(piece.soft.rows)
    layers: dict[str, torch.Tensor] = {}
    if model.config.hidden_size_per_layer_input:
        layers["per_layer_inputs"] = model.model.get_per_layer_inputs(ids[None])
    hidden = model.model(inputs_embeds=embeddings, **layers).last_hidden_state
    cap = model.config.final_logit_softcapping
    assert cap is not None
    return (torch.tanh(model.lm_head(hidden) / cap) * cap)[0].detach().numpy()


def relative(answer: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(answer - expected).max() / np.abs(expected).max())
