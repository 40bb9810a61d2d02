"""Of several files of weights in a folder, those are read that transformers reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from export.checkpoint.checkpoint import Checkpoint
from export.inspect_checkpoint import facts
from runtime.errors import GemmaError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
NORM = "model.norm.weight"


@pytest.fixture
def folder(checkpoint, tmp_path: Path) -> Path:
    return shutil.copytree(checkpoint("31b"), tmp_path / "folder")


def save(values: dict[str, torch.Tensor], path: Path) -> None:
    save_file(values, path, metadata={"format": "pt"})


def shard(folder: Path, norm: float) -> dict[str, str]:
    """Write two shards and an index, the last norm filled with a value; what the index says."""
    values = load_file(folder / WHOLE)
    values[NORM] = torch.full_like(values[NORM], norm)
    where = {name: SHARDS[at % 2] for at, name in enumerate(sorted(values))}
    for file in SHARDS:
        save({name: value for name, value in values.items() if where[name] == file}, folder / file)
    index(folder, where)
    return where


def index(folder: Path, where: dict[str, str], name: str = INDEX) -> None:
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": where}))


def put(folder: Path, file: str, norm: float) -> None:
    values = load_file(folder / file)
    save(values | {NORM: torch.full((64,), float(norm))}, folder / file)


def say(folder: Path, **said: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | said))


def norm_of(folder: Path) -> float:
    """That of ours, which is that of transformers too."""
    theirs = AutoModelForCausalLM.from_pretrained(folder).model.norm.weight.numpy()
    ours = Checkpoint.open(folder).read("norm.weight")
    assert np.array_equal(ours, theirs)
    return float(ours[0])


def test_a_whole_file_comes_before_an_index(folder):
    put(folder, WHOLE, 7)
    assert (norm_of(folder), Checkpoint.open(folder).notes) == (7, ())
    shard(folder, 8)
    assert norm_of(folder) == 7
    note = f"{WHOLE} is read, not the files of the index beside it"
    assert Checkpoint.open(folder).notes == (note,)
    assert facts(str(folder))["notes"] == note
    for file in SHARDS:
        (folder / file).unlink()
    assert norm_of(folder) == 7


@pytest.mark.parametrize("text", ["{", "{}", '{"weight_map": {"a": "../b"}}'])
def test_an_index_that_is_not_read_is_not_judged(folder, text):
    put(folder, WHOLE, 7)
    (folder / INDEX).write_text(text)
    assert norm_of(folder) == 7


def test_an_index_alone_is_read(folder):
    shard(folder, 8)
    (folder / WHOLE).unlink()
    assert (norm_of(folder), Checkpoint.open(folder).notes) == (8, ())


def test_a_file_that_is_not_named_is_not_read(folder):
    shard(folder, 8)
    (folder / WHOLE).rename(folder / "model-00003-of-00003.safetensors")
    assert norm_of(folder) == 8


@pytest.mark.parametrize("variant", ["model.fp16.safetensors", "model.safetensors.bak"])
def test_a_variant_beside_is_not_read(folder, variant):
    put(folder, WHOLE, 7)
    (folder / variant).write_bytes(b"nothing")
    assert norm_of(folder) == 7


def test_config_may_name_a_file(folder):
    shutil.copyfile(folder / WHOLE, folder / "other.safetensors")
    put(folder, "other.safetensors", 9)
    say(folder, transformers_weights="other.safetensors")
    assert norm_of(folder) == 9


def test_config_may_name_an_index(folder):
    where = shard(folder, 8)
    index(folder, where, "other.safetensors.index.json")
    (folder / INDEX).unlink()
    say(folder, transformers_weights="other.safetensors.index.json")
    assert norm_of(folder) == 8


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/x.safetensors", "../x.index.json"])
def test_config_may_not_name_a_file_elsewhere(folder, name):
    shutil.copyfile(folder / WHOLE, folder.parent / "x.safetensors")
    say(folder, transformers_weights=name)
    with pytest.raises(GemmaError, match=r"names the file '.*x\..*', which is not in the folder"):
        Checkpoint.open(folder)


@pytest.mark.parametrize("name", ["other.safetensors", "other.safetensors.index.json", "pytorch_model.bin"])
def test_a_file_that_config_names_and_is_not_there_is_refused(folder, name):
    say(folder, transformers_weights=name)
    with pytest.raises(GemmaError, match=f"no {name}"):
        Checkpoint.open(folder)


def test_a_tensor_in_two_shards_is_the_one_that_the_index_names(folder):
    """Where it names the later of them, which transformers reads; or where both are the same."""
    where = shard(folder, 8) | {NORM: SHARDS[1]}
    (folder / WHOLE).unlink()
    put(folder, SHARDS[0], 1)
    put(folder, SHARDS[1], 2)
    index(folder, where)
    assert norm_of(folder) == 2
    index(folder, where | {NORM: SHARDS[0]})
    with pytest.raises(
        GemmaError, match=f"{SHARDS[1]}: {NORM} differs from the tensor of the same name in {SHARDS[0]}"
    ):
        Checkpoint.open(folder)
    put(folder, SHARDS[0], 2)
    assert norm_of(folder) == 2


def test_a_tensor_that_stands_elsewhere_than_the_index_says_is_read(folder):
    where = shard(folder, 8)
    (folder / WHOLE).unlink()
    index(folder, {name: SHARDS[0] if file == SHARDS[1] else SHARDS[1] for name, file in where.items()})
    assert norm_of(folder) == 8
