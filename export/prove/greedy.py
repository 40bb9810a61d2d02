"""What an artifact answers when it always takes the best token, against a reference that reads the same."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.bundle.parity import Greedy
from runtime.engine.contract import Engine
from runtime.engine.piece import Piece

from ..reference import Source, hidden_states, logits

PROMPTS, LENGTH, STEPS = 5, 12, 64


def compare_greedy(decoder: Engine, source: Source, ids: NDArray[np.int64], tie: float) -> Greedy:
    """Prompts from places along a text, ids (T,).  Two logits nearer than `tie`, of the largest, may change places.

    A reference need not answer by itself: its answers are the same if it has chosen every token before.
    """
    steps = min(STEPS, decoder.model.context - LENGTH)
    starts = np.linspace(0, len(ids) - LENGTH, PROMPTS).astype(int)
    answers = np.stack([answer(decoder, ids[start : start + LENGTH], steps) for start in starts])
    chosen, expected = answers[:, LENGTH:].reshape(-1), chosen_from(source, answers, torch.float32)
    best = np.partition(expected, -2)[:, -2:]
    equal = chosen == expected.argmax(-1)
    near = best[:, 1] - best[:, 0] <= tie * np.abs(expected).max()
    unsure = 0
    if source.config.activation_scales:
        unsure = int((expected.argmax(-1) != chosen_from(source, answers, torch.float64).argmax(-1)).sum())
    return Greedy(len(chosen), int(equal.sum()), int((~equal & near).sum()), unsure)


def chosen_from(source: Source, answers: NDArray[np.int64], dtype: torch.dtype) -> NDArray[np.float32]:
    """The reference's logits at every step of answers (n, LENGTH + steps), one after another, (n · steps, vocab)."""
    hidden = hidden_states(source, answers[:, :-1], dtype=dtype)[:, LENGTH - 1 :]
    return logits(source, hidden.reshape(-1, hidden.shape[-1]))


def answer(decoder: Engine, prompt: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
    """The prompt and the tokens after it, (len(prompt) + steps,)."""
    decoder.reset()
    ids = [*prompt.tolist(), int(decoder.prefill(prompt).logits[-1].argmax())]
    for _ in range(steps - 1):
        ids.append(int(decoder.forward(Piece(np.array(ids[-1:]))).logits[-1].argmax()))
    return np.array(ids, np.int64)
