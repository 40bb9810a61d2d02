"""From logits to a token that the answer so far allows."""

from __future__ import annotations

import numpy as np

from ..arrays import Floats
from ..engine.sampler import Sampler
from .answer import Answer


class ConstrainedSampler:
    """Draws as the sampler does, among the tokens that may come next."""

    def __init__(self, sampler: Sampler, answer: Answer) -> None:
        self._sampler, self._answer = sampler, answer

    def __call__(self, logits: Floats) -> int:
        """Logits (vocab,) float32 to a token id."""
        forced = self._answer.forced()
        if forced is not None:
            return forced
        allowed = self._answer.allowed()
        if allowed is not None:
            return int(allowed[self._sampler(logits[allowed])])
        if forbidden := self._answer.forbidden():
            logits = logits.copy()
            logits[forbidden] = -np.inf
        return self._sampler(logits)
