"""Rules of a quantized release: what transformers makes of them, and none that could harm."""

from __future__ import annotations

import json

import pytest

from export.model.released_bits import parse_bits
from export.synth.shapes import RELEASED

CONFIGS = ("e2b-qat-mobile", "e4b-qat-mobile")


def of(**found):
    return parse_bits({"quantization_config": {"quant_method": "gemma", **found}})


@pytest.mark.parametrize("name", CONFIGS)
def test_the_released_rules(name):
    bits = parse_bits(json.loads((RELEASED / f"{name}.json").read_text()))
    assert bits is not None
    layers = "model.language_model.layers"
    assert bits.of("lm_head") == 2
    assert bits.of("model.language_model.embed_tokens") == 2
    assert bits.of("model.language_model.embed_tokens_per_layer") == (4 if name.startswith("e2b") else 2)
    assert [bits.of(f"{layers}.{i}.mlp.up_proj") for i in (0, 14, 15, 34)] == (
        [4, 4, 2, 2] if name.startswith("e2b") else [4, 4, 4, 4]
    )
    assert bits.of(f"{layers}.20.self_attn.k_proj") == 4
    assert bits.of(f"{layers}.20.per_layer_projection") == 8
    assert bits.of("model.audio_tower.layers.0.lconv1d.linear_start.linear") == 4
    assert bits.of("model.audio_tower.layers.0.lconv1d.linear_end.linear") == 2


def test_the_first_rule_wins_and_the_rest_is_said_once():
    bits = of(num_bits=8, module_quant_configs={"mlp": {"num_bits": 2}, r"mlp\.up": {"num_bits": 4}, "attn": {}})
    assert [bits.of(name) for name in ("a.mlp.up", "a.attn.q", "a.head")] == [2, 8, 8]
    assert bits.idle(["a.mlp.up"]) == ["attn"]


def test_a_model_of_floats_has_none():
    assert parse_bits({}) is None


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ({"num_bits": 3}, "num_bits 3 is not 2, 4 or 8"),
        ({"num_bits": "4"}, "num_bits '4' is not 2, 4 or 8"),
        ({"module_quant_configs": {"mlp": {"num_bits": 0}}}, "num_bits 0"),
        ({"module_quant_configs": {"(": {}}}, "is not a pattern"),
        ({"module_quant_configs": {"(a+)+b": {}}}, "too complex"),
        ({"module_quant_configs": {"(?:a|a)*b": {}}}, "too complex"),
        ({"module_quant_configs": {r"a*a*a*a*a*b": {}}}, "too complex"),
        ({"module_quant_configs": {r"(a*\\)+b": {}}}, "too complex"),
        ({"module_quant_configs": {"a" * 201: {}}}, "too complex"),
        ({"module_quant_configs": {"(?i)a": {}}}, "is not a pattern"),
        ({"module_quant_configs": {f"a{i}": {} for i in range(101)}}, "101 patterns"),
        ({"module_quant_configs": {"(?P<g0>a)": {}}}, "named group"),
        ({"quant_method": "compressed-tensors"}, "-qat-mobile-transformers"),
        ({"quant_method": "awq"}, "quant_method 'awq'"),
    ],
)
def test_what_is_refused(found, named):
    with pytest.raises(ValueError, match=named.replace("(", r"\(")):
        of(**found)
