"""Checkpoints as they are released: layouts, dtypes, shards, and what `inspect` says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from export.checkpoint.checkpoint import Checkpoint
from export.checkpoint.stored import FileEntry
from export.inspect_checkpoint import facts
from export.model.config import parse_config
from export.model.tensors import known_unused, needed, our_name
from export.weights.linears import quantize_weights
from export.weights.plan import storage_plan
from export.weights.row_files import row_format, write_row_files
from quantize.recipe import RECIPES
from runtime.errors import GemmaError
from tests import tiny

PREFIXES = ("model.", "model.language_model.", "language_model.model.")


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    return tiny.write("e2b", tmp_path_factory.mktemp("released"), layout="released")


def config_of(name: str):
    return parse_config(tiny.CONFIGS[name], name)


def everything(opened: Checkpoint) -> dict[str, np.ndarray]:
    return {name: opened.read(name) for name in opened.entries}


def same(a: Checkpoint, b: Checkpoint) -> bool:
    one, other = everything(a), everything(b)
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_released_layout_reads_the_same_tensors(checkpoint, released):
    assert same(Checkpoint.open(released), Checkpoint.open(checkpoint("e2b")))


def test_towers_and_dead_keys_are_skipped_by_name(released):
    opened = Checkpoint.open(released)
    config = tiny.CONFIGS["e2b"]
    first_shared = config["num_hidden_layers"] - config["num_kv_shared_layers"]
    dead = {
        f"model.language_model.layers.{layer}.self_attn.{part}.weight"
        for layer in range(first_shared, config["num_hidden_layers"])
        for part in ("k_proj", "v_proj", "k_norm")
    }
    towers = {
        "model.vision_tower.encoder.layers.0.input_layernorm.weight",
        "model.embed_vision.embedding_projection.weight",
    }
    assert set(opened.unused) == dead | towers
    assert opened.entries.keys() == needed(opened.config).keys()


@pytest.mark.parametrize("name", list(tiny.CONFIGS))
def test_every_family_opens_with_the_tensors_of_its_config(checkpoint, name):
    opened = Checkpoint.open(checkpoint(name))
    assert {key: entry.shape for key, entry in opened.entries.items()} == needed(opened.config)
    reference = sum(value.numel() for key, value in tiny.reference(name).state_dict().items() if "lm_head" not in key)
    assert opened.parameters == reference


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_floats_are_read_exactly(tmp_path, dtype):
    opened = Checkpoint.open(tiny.write("e2b", tmp_path, dtype=dtype))
    stored = load_file(tmp_path / "model.safetensors")
    for name, values in everything(opened).items():
        assert values.dtype == np.float32
        assert np.array_equal(values, stored[opened.entries[name].source_name].float().numpy())


def test_gemma3_norms_are_read_with_their_offset(checkpoint):
    opened = Checkpoint.open(checkpoint("gemma3"))
    stored = load_file(checkpoint("gemma3") / "model.safetensors")
    assert np.array_equal(opened.read("norm.weight"), stored["model.norm.weight"].numpy() + 1)
    name = "layers.0.mlp.up_proj.weight"
    assert np.array_equal(opened.read(name), stored[f"model.{name}"].numpy())


def test_a_float_bundle_of_a_bfloat16_checkpoint_keeps_bfloat16_rows(tmp_path):
    opened = Checkpoint.open(tiny.write("e2b", tmp_path, dtype=torch.bfloat16))
    assert {row_format(opened, table).bits for table in storage_plan(opened, RECIPES["float"]).tables} == {16}


def test_shards_are_read_as_one(checkpoint, tmp_path):
    folder = tiny.write("e2b", tmp_path)
    tiny.shard(folder, 3)
    opened = Checkpoint.open(folder)
    assert len({entry.file for entry in opened.entries.values() if isinstance(entry, FileEntry)}) == 3
    assert same(opened, Checkpoint.open(checkpoint("e2b")))


def test_a_missing_shard_is_named(tmp_path):
    folder = tiny.write("e2b", tmp_path)
    tiny.shard(folder, 3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(GemmaError, match="no model-00002-of-00003.safetensors"):
        Checkpoint.open(folder)


def test_rows_and_gathered_rows_are_those_of_the_whole(checkpoint):
    opened = Checkpoint.open(checkpoint("e2b"))
    whole = opened.read("embed_tokens.weight")
    pieces = list(opened.read_rows("embed_tokens.weight", range(5, 105), 32))
    assert [len(piece) for piece in pieces] == [32, 32, 32, 4]
    assert np.array_equal(np.concatenate(pieces), whole[5:105])
    ids = np.array([7, 383, 7, 0])
    assert np.array_equal(opened.gather("embed_tokens.weight", ids), whole[ids])


@pytest.mark.parametrize("prefix", PREFIXES)
def test_our_name_is_the_released_name_without_its_prefix(prefix):
    assert our_name(f"{prefix}layers.0.layer_scalar") == "layers.0.layer_scalar"


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("name", "unused"),
    [
        ("layers.4.self_attn.k_proj.weight", True),
        ("layers.6.self_attn.v_proj.weight", True),
        ("layers.5.self_attn.k_norm.weight", True),
        ("layers.5.self_attn.q_proj.weight", False),
        ("layers.3.self_attn.k_proj.weight", False),
        ("layers.7.self_attn.k_proj.weight", False),
        ("layers.4.self_attn.k_proj.bias", False),
        ("norm.weight", False),
    ],
)
def test_known_unused_keys_are_those_of_layers_that_share(prefix, name, unused):
    assert known_unused(config_of("e2b"), prefix + name) is unused


@pytest.mark.parametrize(
    ("name", "unused"),
    [
        ("lm_head.weight", True),
        ("model.vision_tower.patch_embedder.input_proj.weight", True),
        ("vision_tower.patch_embedder.input_proj.weight", True),
        ("model.audio_tower.layers.0.norm.weight", True),
        ("model.embed_audio.embedding_projection.weight", True),
        ("multi_modal_projector.mm_input_projection_weight", True),
        ("model.vision_towers.x", False),
        ("model.layers.0.vision_tower.x", False),
        ("lm_head.bias", False),
    ],
)
@pytest.mark.parametrize("family", ["e2b", "gemma3"])
def test_known_unused_towers_and_a_head_stored_twice(family, name, unused):
    assert known_unused(config_of(family), name) is unused


@pytest.mark.parametrize("name", list(tiny.CONFIGS))
def test_inspect_counts_every_parameter_once(checkpoint, name):
    opened = facts(str(checkpoint(name)))
    assert sum(opened["parameters"].values()) == Checkpoint.open(checkpoint(name)).parameters
    assert opened["tensors"]["used"] == len(needed(config_of(name)))


def test_inspect_counts_tensors_that_are_not_used(released):
    assert facts(str(released))["tensors"]["known and not used"] == 3 * 3 + 2


@pytest.mark.parametrize("recipe", ["float", "int8", "int4"])
def test_inspect_tells_the_bytes_that_quantizing_makes(checkpoint, tmp_path, recipe):
    opened = Checkpoint.open(checkpoint("e2b"))
    told = facts(str(checkpoint("e2b")))["recipes"][recipe]
    (tmp_path / "weights").mkdir()
    weights, _ = quantize_weights(opened, storage_plan(opened, RECIPES[recipe]), tmp_path / "weights")
    tables, _ = write_row_files(opened, storage_plan(opened, RECIPES[recipe]), tmp_path)
    assert told["resident"] == sum(weights[name].nbytes for name in weights)
    assert told["flash-mapped"] == sum((tmp_path / table.file).stat().st_size for table in tables.values())
    assert told["disk"] == told["resident"] + told["flash-mapped"]


def test_inspect_caches_of_sliding_layers_end_at_their_window(checkpoint):
    config = tiny.CONFIGS["e2b"]
    sliding, full = 3 * config["head_dim"], 1 * config["global_head_dim"]  # of the four layers that own keys
    expected = 2 * (sliding * config["sliding_window"] + full * config["max_position_embeddings"])
    assert facts(str(checkpoint("e2b")))["cache bytes"] == {"256": expected}
