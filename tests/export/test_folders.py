"""Folders as tools save them: exported, they answer as transformers does of the same folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    PreTrainedModel,
)

from export.checkpoint.checkpoint import Checkpoint
from export.pipeline import export_bundle
from quantize.recipe import RECIPES
from runtime.bundle.bundle import Bundle
from runtime.engine.onnx import OnnxEngine
from runtime.engine.piece import Piece
from runtime.errors import GemmaError
from tests import tiny
from tests.conftest import SAMPLE
from tests.transformers_model import load_with_report

RELATIVE = 1e-4  # of the largest logit
LENGTH = 3 * tiny.WINDOW + 5
CONDITIONAL = {
    "e2b": (Gemma4Config, Gemma4ForConditionalGeneration, {}),
    "gemma3": (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        {"vision_config": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                           "image_size": 28, "patch_size": 14}, "mm_tokens_per_image": 1},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Saved:
    """A folder that a tool wrote, and what it was made of."""

    folder: Path
    origin: str  # a shape of tiny, or the sample
    same: bool = True  # whether the values are those of the origin


def load(folder: Path, **options: Any) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", **options)
    model.eval()
    return model


def save(model: PreTrainedModel, origin: Path, folder: Path, **options: Any) -> Path:
    """The model, and the tokenizer of where it comes from, by their own `save_pretrained`."""
    model.save_pretrained(folder, **options)
    AutoTokenizer.from_pretrained(origin).save_pretrained(folder)
    return folder


def again(name: str, origin: Path, folder: Path) -> Saved:
    return Saved(save(load(origin), origin, folder), name)


def in_shards(name: str, origin: Path, folder: Path) -> Saved:
    save(load(origin), origin, folder, max_shard_size="100KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    return Saved(folder, name)


def in_half(name: str, origin: Path, folder: Path) -> Saved:
    return Saved(save(load(origin, dtype=torch.float16), origin, folder), name, same=False)


def mixed(name: str, origin: Path, folder: Path) -> Saved:
    """Norms in float32, the rest in bfloat16, one tensor in float16: trainers keep some apart."""
    save(load(origin, dtype=torch.bfloat16), origin, folder)
    values = load_file(folder / "model.safetensors")
    values = {key: value.float() if value.ndim == 1 else value for key, value in values.items()}
    values["model.layers.0.mlp.up_proj.weight"] = values["model.layers.0.mlp.up_proj.weight"].half()
    save_file(values, folder / "model.safetensors", metadata={"format": "pt"})
    return Saved(folder, name, same=False)


def extended(name: str, origin: Path, folder: Path) -> Saved:
    """Two new tokens, for ChatML: as trainers set up a base model."""
    model, tokenizer = load(origin), AutoTokenizer.from_pretrained(origin)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = tiny.TEMPLATE.replace("<|turn>", "<|im_start|>").replace("<turn|>", "<|im_end|>")
    torch.manual_seed(1)
    model.resize_token_embeddings(tiny.VOCAB + 2, mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Saved(folder, name)


def of_a_base(name: str, origin: Path, folder: Path) -> Saved:
    """A template added to a base model, whose generation_config.json knows the end of a text only."""
    tokenizer = AutoTokenizer.from_pretrained(origin)
    tokenizer.chat_template = tiny.TEMPLATE
    model = load(origin)
    model.generation_config.eos_token_id = 1
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Saved(folder, name)


def whole(name: str, origin: Path, folder: Path) -> Saved:
    """As the model of text and pictures."""
    config, model, more = CONDITIONAL[name]
    text = load(origin)
    around = model(config(text_config=text.config, **more))
    around.model.language_model.load_state_dict(text.model.state_dict())
    return Saved(save(around.eval(), origin, folder), name)


def merged(name: str, origin: Path, folder: Path) -> Saved:
    """An adapter of every linear, put into the model by PEFT, saved with the adapter's own folder below."""
    peft = pytest.importorskip("peft", reason="the extra test is not installed")
    torch.manual_seed(3)
    settings = peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    model = peft.get_peft_model(load(origin), settings)
    model.save_pretrained(folder / "checkpoint-10")
    return Saved(save(model.merge_and_unload(), origin, folder), name, same=False)


def in_double(name: str, origin: Path, folder: Path) -> Saved:
    return Saved(save(load(origin, dtype=torch.float64), origin, folder), name)


def with_more(name: str, origin: Path, folder: Path) -> Saved:
    """Heads of values, as trainers leave them, and positions that older code saved: transformers skips these."""
    save(load(origin), origin, folder)
    values = load_file(folder / "model.safetensors")
    values |= {
        "v_head.summary.weight": torch.ones(1, 64),
        "v_head.summary.bias": torch.ones(1),
        "score.weight": torch.ones(2, 64),
    }
    values["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(values, folder / "model.safetensors", metadata={"format": "pt"})
    return Saved(folder, name)


CASES: dict[str, tuple[Callable[[str, Path, Path], Saved], str]] = {
    **{f"{name}, saved again": (again, name) for name in (*tiny.CONFIGS, "sample")},
    "in shards": (in_shards, "31b"),
    "in half": (in_half, "e4b"),
    "mixed": (mixed, "e2b"),
    "extended": (extended, "e2b"),
    "extended, of Gemma 3": (extended, "gemma3"),
    "of a base": (of_a_base, "e4b"),
    "whole": (whole, "e2b"),
    "whole, of Gemma 3": (whole, "gemma3"),
    "merged": (merged, "e2b"),
    "in double": (in_double, "gemma3"),
    "with more": (with_more, "e4b"),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, checkpoint, tmp_path_factory) -> tuple[Saved, Path]:
    """A saved folder, and its bundle."""
    make, name = CASES[request.param]
    place = tmp_path_factory.mktemp("folders")
    saved = make(name, SAMPLE if name == "sample" else checkpoint(name), place / "saved")
    export_bundle(saved.folder, place / "bundle", ["onnx"], RECIPES["float"])
    return saved, place / "bundle"


@pytest.mark.slow
def test_logits_are_those_of_transformers(case):
    saved, bundle = case
    theirs = load(saved.folder, dtype=torch.float32)
    vocab = theirs.config.get_text_config().vocab_size
    ids = np.random.default_rng(2).integers(3, vocab, LENGTH)
    ids[-1] = vocab - 1
    expected = theirs(torch.from_numpy(ids)[None]).logits[0].numpy()
    answered = OnnxEngine.open(Bundle.open(bundle), threads=1).forward(Piece(ids, kept=LENGTH)).logits
    assert np.abs(answered - expected).max() <= RELATIVE * np.abs(expected).max()


@pytest.mark.slow
def test_golden_answers_are_those_before_saving(case, bundle):
    saved, path = case
    golden = [json.loads((one / "golden.json").read_text()) for one in (path, bundle(saved.origin))]
    assert (golden[0]["prompts"] == golden[1]["prompts"]) is saved.same


@pytest.mark.slow
def test_what_a_conversation_needs_is_there(case, checkpoint):
    saved, path = case
    manifest, tokenizer = Bundle.open(path).manifest, AutoTokenizer.from_pretrained(saved.folder)
    assert manifest.special_tokens == tokenizer.special_tokens_map
    assert manifest.generation.bos == 2
    end = "<|im_end|>" if "<|im_end|>" in (tokenizer.chat_template or "") else "<turn|>"
    assert {1, tokenizer.convert_tokens_to_ids(end)} <= set(manifest.generation.stop)
    assert (path / manifest.chat_template).read_text() == tokenizer.chat_template


def test_a_merge_that_kept_the_quantization_config_is_floats(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint("e2b"), tmp_path / "merged")
    kept = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | kept))
    logits = Checkpoint.open(folder)
    assert not logits.is_packed
    assert logits.notes == (
        "config.json has a quantization_config (bitsandbytes), which is not used: the tensors are floats",
    )
    assert logits.entries.keys() == Checkpoint.open(checkpoint("e2b")).entries.keys()


def untie(folder: Path, head: torch.Tensor | None) -> Path:
    values = load_file(folder / "model.safetensors")
    if head is not None:
        values["lm_head.weight"] = head
    save_file(values, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    return folder


@pytest.mark.parametrize("name", ["e2b", "gemma3"])
def test_a_head_that_is_said_to_be_its_own_and_is_the_table_loads(checkpoint, tmp_path, name):
    folder = shutil.copytree(checkpoint(name), tmp_path / "untied")
    table = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    assert Checkpoint.open(untie(folder, table.clone())).head is not None


def test_a_head_that_is_said_to_be_its_own_and_is_not_there_is_refused(checkpoint, tmp_path):
    folder = untie(shutil.copytree(checkpoint("e2b"), tmp_path / "untied"), None)
    _, report = load_with_report(AutoModelForCausalLM, folder)
    assert report["missing_keys"] == {"lm_head.weight"}  # transformers makes one up
    with pytest.raises(GemmaError, match=r"no lm_head.weight"):
        Checkpoint.open(folder)
