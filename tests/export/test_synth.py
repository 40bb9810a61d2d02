"""Generated checkpoints: a release in all but its values, and values that keep a model sane."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from export.checkpoint.checkpoint import GENERATED, Checkpoint
from export.model.config import parse_config
from export.synth.generated import BLOCK, Block, GeneratedEntry, Normal
from export.synth.shapes import RELEASED, SHAPES, named_shape, released_tensors
from export.synth.tokenizer import synth_tokenizer
from export.synth.write import generated_checkpoint, shards, synthesize
from runtime.cli import main as cli
from runtime.errors import GemmaError
from tests.transformers_model import load_with_report

TINY = [name for name in SHAPES if name.endswith("-tiny")]
# Bytes of model.safetensors and tensors in it, as released on the hub.
RELEASES = {
    "e2b": (10_246_621_918, 2011),
    "e4b": (15_992_595_884, 2130),
    "e2b-qat-mobile": (2_458_111_846, 2780),
    "e4b-qat-mobile": (3_525_094_516, 3104),
}
TABLE_SCALES = "model.language_model.embed_tokens_per_layer.embedding_scale"


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("name", RELEASES)
def test_a_released_shape_is_the_release_to_the_byte(name):
    size, tensors = RELEASES[name]
    (shard,) = shards(named_shape(name), 0)
    assert (shard.size, len(shard.tensors)) == (size, tensors)


def test_the_largest_has_as_many_tensors_and_bytes_as_released():
    raw = json.loads((RELEASED / "31b.json").read_text())
    found = released_tensors(raw, "31b")
    assert len(found) == 1188
    assert sum(int(np.prod(one.shape)) for one in found.values()) == 31_273_088_876


@pytest.mark.parametrize("name", TINY)
def test_transformers_finds_every_tensor_and_no_other(name, generated):
    kind = AutoModelForCausalLM if name == "gemma3-tiny" else AutoModelForImageTextToText
    model, report = load_with_report(kind, generated(name), dtype=torch.float32, ignore_mismatched_sizes=True)
    left = {what: found for what, found in report.items() if found}
    if "qat" in name:  # transformers expects one scale a row, where the release has one for each layer
        assert {tensor for tensor, *_ in left.pop("mismatched_keys")} == {TABLE_SCALES}
        stored = load_file(generated(name) / "model.safetensors")[TABLE_SCALES]
        model.model.language_model.embed_tokens_per_layer.embedding_scale = torch.nn.Parameter(stored)
    assert left == {}
    tokenizer = AutoTokenizer.from_pretrained(generated(name))
    ids = torch.tensor([[2, *tokenizer("the sky is blue", add_special_tokens=False).input_ids]])
    found = model(input_ids=ids, output_hidden_states=True)
    sizes = [float(state.square().mean().sqrt()) for state in found.hidden_states]
    assert 0.5 < min(sizes) <= max(sizes) < 4
    assert 0.5 < found.logits.std() < 2


@pytest.mark.parametrize("name", TINY)
def test_it_opens_as_a_checkpoint_and_equals_the_one_that_is_never_written(name, generated, tmp_path):
    found, never = Checkpoint.open(generated(name)), generated_checkpoint(named_shape(name), 0, tmp_path)
    assert (found.config, found.unused) == (never.config, never.unused)
    assert found.entries.keys() == never.entries.keys()
    assert all(np.array_equal(found.read(tensor), never.read(tensor)) for tensor in found.entries)


def test_only_the_31b_has_several_files(generated):
    counts = {name: len(list(generated(name).glob("*.safetensors"))) for name in TINY}
    assert counts.pop("31b-tiny") == 2
    assert set(counts.values()) == {1}
    assert (generated("31b-tiny") / "model.safetensors.index.json").is_file()


def test_the_same_seed_writes_the_same_bytes(generated, tmp_path):
    for seed in (0, 1):
        synthesize(named_shape("e2b-tiny"), tmp_path / str(seed), seed, replace=False)
    first, again, other = (hashes(folder) for folder in (generated("e2b-tiny"), tmp_path / "0", tmp_path / "1"))
    assert first == again
    assert {name for name in first if first[name] != other[name]} == {"model.safetensors", GENERATED}


def test_a_tensor_longer_than_the_block_has_no_equal_rows_and_any_part_is_the_same():
    width = 1536
    entry = GeneratedEntry("big", (BLOCK // width + 3000, width), Normal(0.0, 1.0), Block(0))
    with entry.opened() as rows:
        heads = np.asarray(rows[:][:, :8], np.float32)
        late = range(BLOCK // width - 1, BLOCK // width + 2)
        assert np.array_equal(rows[late.start : late.stop].view(np.uint16), rows[:][late].view(np.uint16))
    assert len(np.unique(heads, axis=0)) == len(heads)


def test_the_tokenizer_is_full_and_gives_text_back():
    text = "The sky above Oslo is blue, and 7 clouds: é 🙂"
    for vocab in (400, 1024, 262_144):
        made = synth_tokenizer(vocab)
        assert made.get_vocab_size() == vocab
        assert made.decode(made.encode(text).ids) == text
    assert len(made.encode("the weather of the north is cold").ids) < 16


def test_the_command_writes_a_folder(tmp_path, capsys):
    assert cli.main(["synth", "e2b-tiny", str(tmp_path / "x"), "--seed", "3"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'x'}\n"
    assert parse_config(json.loads((tmp_path / "x" / "config.json").read_text()), "x").own_kv_layers == 4


def test_force_replaces_generated_folders_only(generated, tmp_path, capsys):
    folder = shutil.copytree(generated("gemma3-tiny"), tmp_path / "x")
    assert cli.main(["synth", "e2b-tiny", str(folder)]) == 1
    assert cli.main(["synth", "e2b-tiny", str(folder), "--force"]) == 0
    (folder / GENERATED).unlink()
    before = hashes(folder)
    assert cli.main(["synth", "gemma3-tiny", str(folder), "--force"]) == 1
    assert hashes(folder) == before
    errors = capsys.readouterr().err
    assert "already exists" in errors
    assert "not a generated checkpoint" in errors


@pytest.mark.parametrize(
    ("words", "named"), [(["e9b"], "unknown shape: e9b"), (["e2b-tiny", "--seed", "-1"], "--seed -1")]
)
def test_the_command_refuses(words, named, tmp_path, capsys):
    assert cli.main(["synth", words[0], str(tmp_path / "x"), *words[1:]]) == 1
    assert named in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(GemmaError, match=r"needs 10\.3 GB, and 0\.0 GB are free"):
        synthesize(named_shape("e2b"), tmp_path / "x", 0, replace=False)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    with pytest.raises(GemmaError, match="No space left"):
        synthesize(named_shape("e2b-tiny"), tmp_path / "x", 0, replace=False, progress=full)
    assert list(tmp_path.iterdir()) == []
