"""The sample trained with static ranges: with them it answers as before, without them it does not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import Gemma4ForCausalLM
from transformers.integrations.gemma_quant import apply_srq

from tests.conftest import SAMPLE
from tests.sample.activations import bundle_of, conversations, measured, of_transformers, without_ranges
from tests.sample.release import DIFFERENCE, QUESTIONS, sample_release

pytestmark = pytest.mark.slow
FEWER, MANY_FEWER = 2, 15  # of 120 answers
OTHERWISE = 1
MOST_CLIPPED = 0.2


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return sample_release(tmp_path_factory.mktemp("sample") / "release")


@pytest.fixture(scope="module")
def asked():
    return conversations()


@pytest.fixture(scope="module")
def of_float(asked):
    return measured(of_transformers(SAMPLE), asked)


@pytest.fixture(scope="module")
def of_ranges(release, asked):
    return measured(of_transformers(release), asked)


def test_it_fits_in_the_repository():
    assert DIFFERENCE.stat().st_size + QUESTIONS.stat().st_size <= 2_000_000
    assert len(json.loads(QUESTIONS.read_text())) == 120


def test_with_its_ranges_it_answers_as_the_sample_and_without_them_it_does_not(release, asked, of_float, of_ranges):
    dropped = measured(of_transformers(release, static=False), asked)
    assert of_ranges["right"] >= of_float["right"] - FEWER
    assert dropped["right"] <= of_float["right"] - MANY_FEWER
    assert of_ranges["nats"] < dropped["nats"]


def test_no_range_clips_more_than_a_fifth(release, asked):
    model, shares = Gemma4ForCausalLM.from_pretrained(release, dtype=torch.float32).eval(), []

    def watch(module, arguments, output):
        scales = (module.input_activation_scale, module.output_activation_scale)
        plain = torch.nn.functional.linear(apply_srq(arguments[0], scales[0]), module._dequantize_weights())
        for x, scale in zip((arguments[0], plain), scales, strict=True):
            shares.append(float((x.abs() > 127.5 * scale).float().mean()))

    for name, module in model.named_modules():
        if hasattr(module, "input_activation_scale") and name != "lm_head":
            module.register_forward_hook(watch)
    ids = np.concatenate([np.concatenate(pair) for pair in asked])[:2048]
    model(input_ids=torch.from_numpy(ids)[None])
    assert len(shares) == 2 * (4 * 9 + 4 * 7)
    assert max(shares) <= MOST_CLIPPED
    assert np.mean(shares) >= 0.01


@pytest.mark.parametrize(("target", "count"), [("onnx", 120), ("executorch", 120), ("coreml", 20)])
def test_its_bundle_answers_as_transformers_does(target, count, release, asked, tmp_path):
    some = asked[:count]
    expected, found = (
        measured(of_transformers(release), some),
        measured(bundle_of(release, tmp_path / "x.bundle", target), some),
    )
    assert abs(found["right"] - expected["right"]) <= OTHERWISE


def test_a_bundle_that_drops_them_is_as_bad_as_the_release_without_them(release, asked, of_float, tmp_path):
    dropped = measured(bundle_of(without_ranges(release), tmp_path / "x.bundle"), asked)
    assert dropped["right"] <= of_float["right"] - MANY_FEWER
