"""Configurations as released: which layer slides, whose keys it reads, how many parameters that makes."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest

from export.model.config import parse_config
from export.model.tensors import needed
from runtime.errors import GemmaError

ROPE = {
    "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1e6, "rope_type": "proportional"},
    "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
}


def released(sliding: int, groups: int, **text: object) -> dict[str, Any]:
    """A multimodal config.json as released, its text part reduced to what shapes depend on."""
    common = {
        "attention_bias": False,
        "final_logit_softcapping": 30.0,
        "global_head_dim": 512,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "layer_types": (["sliding_attention"] * sliding + ["full_attention"]) * groups,
        "num_global_key_value_heads": None,
        "num_hidden_layers": (sliding + 1) * groups,
        "rms_norm_eps": 1e-6,
        "rope_parameters": ROPE,
        "vocab_size": 262144,
    }
    return {"model_type": "gemma4", "tie_word_embeddings": True, "text_config": common | text}


E2B = released(
    4, 7, hidden_size=1536, intermediate_size=6144, num_attention_heads=8, num_key_value_heads=1,
    hidden_size_per_layer_input=256, num_kv_shared_layers=20, use_double_wide_mlp=True, sliding_window=512,
    max_position_embeddings=131072,
)  # fmt: skip
E4B = released(
    5, 7, hidden_size=2560, intermediate_size=10240, num_attention_heads=8, num_key_value_heads=2,
    hidden_size_per_layer_input=256, num_kv_shared_layers=18, use_double_wide_mlp=False, sliding_window=512,
    max_position_embeddings=131072,
)  # fmt: skip
DENSE_31B = released(
    5, 10, hidden_size=5376, intermediate_size=21504, num_attention_heads=32, num_key_value_heads=16,
    num_global_key_value_heads=4, attention_k_eq_v=True, hidden_size_per_layer_input=0, num_kv_shared_layers=0,
    sliding_window=1024, max_position_embeddings=262144, use_bidirectional_attention="vision",
)  # fmt: skip
GEMMA_3_270M = {
    "model_type": "gemma3_text", "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18,
    "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6, "rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window": 512,
    "_sliding_window_pattern": 6, "vocab_size": 262144, "max_position_embeddings": 32768,
}  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "parameters"),
    [(E2B, 4_628_569_379), (E4B, 7_463_013_418), (DENSE_31B, 30_697_345_340), (GEMMA_3_270M, 268_098_176)],
    ids=["E2B", "E4B", "31B", "270M"],
)
def test_parameters_are_those_of_the_released_text_models(raw, parameters):
    assert sum(prod(shape) for shape in needed(parse_config(raw, "x")).values()) == parameters


@pytest.mark.parametrize(("raw", "own", "sliding", "full"), [(E2B, 15, 13, 14), (E4B, 24, 22, 23)], ids=["E2B", "E4B"])
def test_shared_layers_read_the_last_owner_of_their_kind(raw, own, sliding, full):
    config = parse_config(raw, "x")
    assert config.own_kv_layers == own
    sources = {(layer.kind, layer.source) for layer in config.layers[own:]}
    assert sources == {("sliding", sliding), ("full", full)}


def test_double_wide_layers_are_the_shared_ones():
    assert [layer.intermediate for layer in parse_config(E2B, "x").layers] == [6144] * 15 + [12288] * 20


def test_value_is_key_on_full_layers_of_the_dense_model_only():
    layers = parse_config(DENSE_31B, "x").layers
    assert [layer.value_is_key for layer in layers] == ([False] * 5 + [True]) * 10
    assert {(layer.kind, layer.kv_heads, layer.head_dim) for layer in layers} == {
        ("sliding", 16, 256),
        ("full", 4, 512),
    }


def test_proportional_rope_turns_a_quarter_of_the_pairs():
    ropes = parse_config(E2B, "x").rope
    assert (ropes["full"].rotated_pairs, ropes["full"].head_dim) == (64, 512)
    assert (ropes["sliding"].rotated_pairs, ropes["sliding"].head_dim) == (128, 256)


def test_gemma_3_layers_follow_the_pattern():
    kinds = [layer.kind for layer in parse_config(GEMMA_3_270M, "x").layers]
    assert kinds == (["sliding"] * 5 + ["full"]) * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llama"}, "model_type 'llama'"),
        ({"hidden_activation": "silu"}, "hidden_activation 'silu'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"use_bidirectional_attention": True}, "both directions"),
        ({"final_logit_softcapping": 30.0}, "soft-capped"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 8.0}}, "rope_type 'linear' with factor 8.0"),
        ({"layer_types": ["full_attention"]}, "1 entries for num_hidden_layers 18"),
        ({"num_key_value_heads": 3}, "do not divide"),
        ({"hidden_size": 10**9}, "hidden_size in config.json must be .*, not 1000000000"),
        ({"hidden_size": None}, "does not describe a Gemma"),
        ({"layer_types": ["strange"] * 18}, "no 'strange'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_would_be_computed_wrongly_is_refused(change, message):
    with pytest.raises(GemmaError, match=message):
        parse_config(GEMMA_3_270M | change, "x")
