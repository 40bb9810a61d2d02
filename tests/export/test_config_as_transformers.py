"""A config.json means what transformers takes it to mean: shapes and positions of its own model, or refused by both."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Gemma4ForCausalLM,
    Gemma4TextConfig,
    PreTrainedConfig,
)

from export.model.config import GemmaConfig, parse_config, tied
from export.model.tensors import needed
from runtime.bundle.manifest import Rope
from runtime.engine.rotary import frequencies
from runtime.errors import GemmaError
from tests import tiny

FULL, SLIDING = tiny.FULL, tiny.SLIDING
TURNED = {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25}
FLAT = {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
THETAS = ["rope_theta", "rope_local_base_freq"]
CLASSES: dict[str, tuple[type[PreTrainedConfig], Callable[..., Gemma4ForCausalLM | Gemma3ForCausalLM]]] = {
    "gemma3_text": (Gemma3TextConfig, Gemma3ForCausalLM),
    "gemma4_text": (Gemma4TextConfig, Gemma4ForCausalLM),
}
FULL_LAYERS = (2, 4, 6)  # of e2b


def each(*layers: int, form: str = "{}", **fields: Any) -> dict[str, Any]:
    return {"per_layer_config": {form.format(index): fields for index in layers}}


def ropes(full: Any = None, sliding: Any = None) -> dict[str, Any]:
    return {"rope_parameters": {FULL: full, SLIDING: sliding}}


GEMMA4: dict[str, tuple[str, list[str], dict[str, Any]]] = {  # the shape, fields left out, fields said otherwise
    "as released": ("e2b", [], {}),
    "per layer": ("e2b", ["global_head_dim"], each(*FULL_LAYERS, head_dim=32)),
    "per layer, with zeros": ("e2b", ["global_head_dim"], each(*FULL_LAYERS, form="{:03}", head_dim=32)),
    "per layer before the old fields": ("e2b", [], each(*FULL_LAYERS, head_dim=32) | {"global_head_dim": 8}),
    "per layer, none": ("e2b", [], {"per_layer_config": {}}),
    "per layer, null": ("e2b", [], {"per_layer_config": None}),
    "per layer, heads too": ("31b", [], each(3, head_dim=32, num_key_value_heads=1)),
    "heads without the flag": ("e2b", [], each(*FULL_LAYERS, head_dim=32, num_key_value_heads=2)),
    "sliding layers per layer": ("e2b", [], {"head_dim": 32} | each(0, 1, 3, 5, head_dim=8)),
    "per layer, as the rest": ("e2b", [], each(*FULL_LAYERS, head_dim=32, intermediate_size=96, skip=[])),
    "full layers that differ": ("e2b", [], each(2, 4, head_dim=32)),
    "a width of one kind": ("e2b", [], each(*FULL_LAYERS, head_dim=32, intermediate_size=48)),
    "a window of one kind": ("e2b", [], each(*FULL_LAYERS, head_dim=32, sliding_window=4)),
    "a layer that is not there": ("e2b", [], each(7, head_dim=32)),
    "a layer without a number": ("e2b", [], each(7, form="x", head_dim=32)),
    "a list": ("e2b", [], {"per_layer_config": [{"head_dim": 32}]}),
    "no global_head_dim": ("e2b", ["global_head_dim"], {}),
    "heads of full layers, keys not values": ("e2b", [], {"num_global_key_value_heads": 2}),
    "heads of full layers, keys are values": ("e2b", [], {"num_global_key_value_heads": 2, "attention_k_eq_v": True}),
    "no layer_types": ("31b", ["layer_types"], {"num_hidden_layers": 7}),
    "a last layer that slides": ("31b", [], {"layer_types": [FULL, SLIDING, SLIDING, SLIDING]}),
    "too few layer_types": ("31b", [], {"layer_types": [SLIDING, FULL]}),
    "no ropes": ("31b", ["rope_parameters"], {}),
    "ropes by the old name": ("31b", [], ropes(TURNED, {"type": "default", "rope_theta": 1e4})),
    "a default rope in part": ("31b", [], ropes(TURNED | {"rope_type": "default"}, {"rope_theta": 1e4})),
    "a flat rope": ("31b", [], FLAT),
    "a rope without theta": ("31b", [], ropes({"rope_type": "proportional"}, {"rope_theta": 1e4})),
    "all layers share": ("e2b", [], {"num_kv_shared_layers": 7}),
    "no window": ("31b", ["sliding_window"], {}),
    "no sharing": ("31b", ["num_kv_shared_layers", "use_double_wide_mlp", "attention_k_eq_v"], {}),
    "no kv heads": ("31b", ["num_key_value_heads"], {}),
    "no vocabulary": ("31b", ["vocab_size"], {}),
    "no context and eps": ("31b", ["max_position_embeddings", "rms_norm_eps", "final_logit_softcapping"], {}),
}
GEMMA3: dict[str, tuple[list[str], dict[str, Any]]] = {
    "as released": ([], {}),
    "no thetas": (THETAS, {}),
    "a flat rope": (THETAS, FLAT),
    "a flat rope beside thetas": ([], FLAT | {"rope_theta": 3e5, "rope_local_base_freq": 2e4}),
    "a flat rope that scales": ([], {"rope_parameters": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5}}),
    "by kind": ([], ropes({"rope_type": "default", "rope_theta": 7e5}, {"rope_theta": 2e4})),
    "full alone": ([], {"rope_parameters": {FULL: {"rope_type": "default"}}, "rope_theta": 3e5}),
    "sliding null": ([], ropes({"rope_type": "default"})),
    "empty": ([], {"rope_parameters": {}}),
    "proportional": ([], {"rope_parameters": {FULL: TURNED}}),
    "partial, by default": ([], {"rope_parameters": {FULL: TURNED | {"rope_type": "default"}}}),
    "scaled by nothing": ([], {"rope_scaling": {"rope_type": "linear", "factor": 1.0}}),
    "not scaled": ([], {"rope_scaling": {"type": "default"}}),
    "no scalar": (["query_pre_attn_scalar"], {}),
    "no layer_types": (["layer_types"], {"num_hidden_layers": 7}),
    "a pattern": (["layer_types"], {"sliding_window_pattern": 2}),
    "a pattern that is not read": (["layer_types"], {"_sliding_window_pattern": 2, "num_hidden_layers": 6}),
    "too few layer_types": ([], {"layer_types": [SLIDING, FULL]}),
    "per layer": ([], each(0, head_dim=8)),
    "per layer, as the rest": ([], each(0, head_dim=16)),
    "no window": (["sliding_window"], {}),
    "no context and eps": (["max_position_embeddings", "rms_norm_eps"], {}),
}


def changed(name: str, without: list[str], said: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tiny.CONFIGS[name].items() if key not in without} | said


def of_transformers(raw: dict[str, Any]) -> Gemma4ForCausalLM | Gemma3ForCausalLM | None:
    """On no device; None where it raises."""
    config, causal = CLASSES[raw["model_type"]]
    try:
        settings = config.from_dict(copy.deepcopy(raw))  # which writes into what it is given
        with torch.device("meta"):
            model = causal(settings)
        model.model.rotary_emb = type(model.model.rotary_emb)(settings)  # whose frequencies are values
    except Exception:  # of many classes
        return None
    return model


def of_ours(raw: dict[str, Any]) -> GemmaConfig | None:
    try:
        return parse_config(raw, "x")
    except GemmaError:
        return None


def assert_the_same(raw: dict[str, Any]) -> None:
    model, config = of_transformers(raw), of_ours(raw)
    assert (model is None) == (config is None)
    if model is None or config is None:
        return
    shapes = {name.removeprefix("model."): tuple(value.shape) for name, value in model.state_dict().items()}
    assert {name: shape for name, shape in shapes.items() if name != "lm_head.weight"} == needed(config)
    settings, first = model.config, model.model.layers[0].self_attn
    assert [f"{layer.kind}_attention" for layer in config.layers] == settings.layer_types
    assert (config.window, config.context, config.eps) == (
        settings.sliding_window, settings.max_position_embeddings, settings.rms_norm_eps,
    )  # fmt: skip
    assert config.softcap == (settings.final_logit_softcapping or 0)
    assert config.attention_scale == pytest.approx(first.scaling)
    for kind in {layer.kind for layer in config.layers}:
        theirs = getattr(model.model.rotary_emb, f"{kind}_attention_inv_freq").numpy()
        rope = config.rope[kind]
        ours = frequencies(Rope(theta=rope.theta, head_dim=rope.head_dim, rotated_pairs=rope.rotated_pairs))
        assert np.allclose(ours, theirs, rtol=1e-6, atol=0)


@pytest.mark.parametrize("case", GEMMA4)
def test_gemma_4(case):
    name, without, said = GEMMA4[case]
    assert_the_same(changed(name, without, said))


@pytest.mark.parametrize("case", GEMMA3)
def test_gemma_3(case):
    without, said = GEMMA3[case]
    assert_the_same(changed("gemma3", without, said))


def test_the_cases_load_and_are_refused():
    """So that neither answer passes for all."""
    loaded = [of_ours(changed(*case)) is not None for case in GEMMA4.values()]
    loaded += [of_ours(changed("gemma3", *case)) is not None for case in GEMMA3.values()]
    assert (sum(loaded), len(loaded) - sum(loaded)) == (43, 12)


@pytest.mark.parametrize(
    "raw",
    [
        changed("e2b", [], ropes(TURNED | {"factor": 2.0}, {"rope_theta": 1e4})),
        changed("gemma3", [], {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
        changed("e2b", [], each(*FULL_LAYERS, head_dim=32, skip=["mlp"])),
    ],
    ids=["a factor", "linear", "skip"],
)
def test_what_is_not_supported_is_refused(raw):
    assert of_transformers(raw) is not None
    with pytest.raises(GemmaError, match="not supported"):
        parse_config(raw, "x")


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("inner", [True, False])
def test_of_a_whole_model_the_outer_flag_ties(flag, inner):
    text = tiny.CONFIGS["gemma3"] | {"tie_word_embeddings": inner}
    assert Gemma3Config(text_config=text).tie_word_embeddings is tied({"text_config": text})
    assert Gemma3Config(text_config=text, tie_word_embeddings=flag).tie_word_embeddings is tied(
        {"text_config": text, "tie_word_embeddings": flag}
    )
    assert Gemma3TextConfig.from_dict(text).tie_word_embeddings is tied(text)
