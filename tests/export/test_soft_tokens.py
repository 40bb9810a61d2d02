"""Soft tokens in the engines that own their caches, against transformers."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from export.pipeline import export_bundle
from quantize.recipe import RECIPES
from runtime.bundle.bundle import Bundle
from tests import soft

RELATIVE = 1e-3
CALLS = [25, 35]  # the boundary is inside the soft span


def read(engine, piece):
    """Logits (tokens of the last call, vocab), each of them kept."""
    first, second = CALLS
    engine.forward(piece.part(0, first))
    return engine.forward(piece.part(first, first + second, second)).logits


@pytest.mark.parametrize("name", ["e2b", "31b"])
def test_core_ml_reads_soft_tokens_as_transformers_does(name, coreml_bundle):
    from export.to_coreml.engine import CoreMLEngine

    piece = soft.prompt(name)
    logits = read(CoreMLEngine.open(Bundle.open(coreml_bundle(name, "float")), "float32"), piece)
    assert soft.relative(logits, soft.expected_logits(name, piece)[-CALLS[1] :]) <= RELATIVE


@pytest.mark.parametrize("name", ["e2b", "31b"])
def test_executorch_reads_soft_tokens_as_transformers_does(name, checkpoint, tmp_path):
    pytest.importorskip("executorch", reason="the extra executorch is not installed")
    from runtime.engine.executorch import ExecutorchWeights

    with contextlib.redirect_stderr(io.StringIO()):
        export_bundle(checkpoint(name), tmp_path / "x.bundle", ["executorch"], RECIPES["float"])
    piece, weights = soft.prompt(name), ExecutorchWeights(Bundle.open(tmp_path / "x.bundle"), threads=1)
    expected = soft.expected_logits(name, piece)
    first, second = weights.engine(), weights.engine()
    second.prefill(np.arange(5, 20))  # a conversation beside, with caches of its own
    logits = read(first, piece)
    assert soft.relative(logits, expected[-CALLS[1] :]) <= RELATIVE
    last = weights.engine().forward(piece).logits
    assert soft.relative(last, expected[-1:]) <= RELATIVE, "one call of 59 tokens, and one of the last"
