"""What the sample says and what its export measures, against answers that are committed.

tests/golden/sentence.json is by transformers, tests/golden/measured.json by an export on one processor.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from runtime.engine.sampler import Sampling
from runtime.language.events import End, Token
from runtime.session.model import Model
from tests import bundle_bytes, golden_sentence, measured
from tests.conftest import SAMPLE

SENTENCE = json.loads(golden_sentence.GOLDEN.read_text(encoding="utf-8"))
MEASURED = json.loads(measured.GOLDEN.read_text(encoding="utf-8"))
GREEDY = Sampling(temperature=0)


def test_the_committed_ids_are_the_committed_sentence():
    tokenizer = Tokenizer.from_file(str(SAMPLE / "tokenizer.json"))
    assert tokenizer.decode(SENTENCE["ids"], skip_special_tokens=True) == SENTENCE["text"]
    assert len(SENTENCE["text"].split()) > 10


def test_transformers_says_the_golden_sentence():
    assert golden_sentence.answer() == SENTENCE


def test_the_bundle_in_float_says_the_golden_sentence(bundle):
    model = Model.open(bundle("sample", "float"), threads=1)
    session = model.session()
    prompt = session.tokenizer.chat([{"role": "user", "content": "Tell me about Norway."}])
    assert prompt == SENTENCE["prompt_ids"]
    *tokens, end = session.generate(prompt, GREEDY, golden_sentence.STEPS)
    assert isinstance(end, End)
    assert "".join(token.text for token in tokens if isinstance(token, Token)) == SENTENCE["text"]
    ids = [token.id for token in tokens if isinstance(token, Token)]
    assert ids == SENTENCE["ids"][: len(ids)]
    assert SENTENCE["ids"][len(ids) :] in ([], [106])  # the token that ends a turn is said to nobody


# How far another processor may come from what was measured.
SCALE = 1e-3  # of a cache's scale
AGREEMENT = 0.02  # of the positions
# Of a mean divergence, and 1e-6 nats where there is hardly any.  What ships rounds activations to 8 bits, where the
# last bit of a sum can move a value by a whole step.
DIVERGENCE = {"onnx exact": 0.1, "onnx": 0.5}
LOGIT = 2 * MEASURED["parity"]["onnx"]["quantized"]["worst_difference"]  # as golden.json allows other processors


def check_near(values: dict[str, Any]) -> None:
    assert values["cache scales"].keys() == MEASURED["cache scales"].keys()
    for name, scales in values["cache scales"].items():
        assert np.allclose(scales, MEASURED["cache scales"][name], rtol=SCALE, atol=0), name
    for artifact, against in MEASURED["parity"].items():
        for reference, expected in against.items():
            figures = values["parity"][artifact][reference]
            assert figures["positions"] == expected["positions"]
            assert figures["agreement"] == pytest.approx(expected["agreement"], abs=AGREEMENT)
            divergence = expected["mean_divergence"]
            assert figures["mean_divergence"] == pytest.approx(divergence, rel=DIVERGENCE[artifact], abs=1e-6)
    for golden, expected in zip(values["golden"], MEASURED["golden"], strict=True):
        assert golden["prompt"] == expected["prompt"]
        assert golden["ids"] == expected["ids"]
        assert np.allclose(golden["top_logits"], expected["top_logits"], rtol=0, atol=LOGIT)


@pytest.mark.slow
def test_an_export_measures_what_was_measured(bundle):
    check_near(measured.measured(bundle("sample", measured.RECIPE)))


@pytest.mark.slow
def test_other_instructions_measure_nearly_the_same_and_write_the_same_bytes():
    """With ATEN_CPU_CAPABILITY torch computes as on a processor without wide registers."""
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    words = [sys.executable, str(Path(measured.__file__))]
    printed = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    result = json.loads(printed.splitlines()[-1])
    assert result["capability"] == "DEFAULT"
    check_near(result["measured"])
    assert result["hashes"] == json.loads(bundle_bytes.GOLDEN.read_text())[measured.RECIPE]
