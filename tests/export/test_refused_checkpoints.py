"""What can not be exported: one sentence, exit code 1, no destination and nothing left beside it."""

from __future__ import annotations

import json
import re
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from export.checkpoint.checkpoint import Checkpoint
from runtime.bundle.bundle import Bundle, check_destination
from runtime.cli.main import main
from runtime.errors import GemmaError
from tests import tiny

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
DEEP = "[" * 100_000


@pytest.fixture
def source(checkpoint, tmp_path: Path) -> Path:
    """A checkpoint to damage."""
    return shutil.copytree(checkpoint("e2b"), tmp_path / "source")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def refused(capsys, out) -> Callable[..., None]:
    """An export is refused in a sentence that holds `named`, and leaves `out` as it was."""

    def check(source: Path | str, *named: str, words: tuple[str, ...] = (), to: Path | None = None) -> None:
        before = snapshot(out)
        code = main(["export", str(source), "-o", str(to or out / "x.bundle"), "--recipe", "float", *words])
        printed, err = capsys.readouterr()
        assert (code, printed) == (1, "")
        assert re.search("^error: ", err, re.MULTILINE)
        assert "Traceback" not in err
        assert all(word in err for word in named), err
        assert snapshot(out) == before

    return check


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    found = load_file(folder / WEIGHTS)
    change(found)
    save_file(found, folder / WEIGHTS, metadata={"format": "pt"})


def change_header(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Other words in a safetensors header, the data as it was."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])


# Where the checkpoint is.


def test_a_wrong_path_is_refused(refused, tmp_path):
    refused(tmp_path / "nothing", f"there is no folder {tmp_path / 'nothing'}", "hub id")


def test_a_hub_id_that_the_hub_does_not_know_is_refused(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")

    def unknown(*_: object, **__: object) -> str:
        raise OSError("404: Repository Not Found\nmany more lines")

    monkeypatch.setattr(hub.HfApi, "snapshot_download", unknown)
    with pytest.raises(
        GemmaError, match=r"there is no folder someone/nothing, and the hub says: 404: Repository Not Found"
    ):
        Checkpoint.open("someone/nothing")  # here: another process has another hub


def test_a_file_instead_of_a_folder_is_refused(refused, source):
    refused(source / WEIGHTS, "a file, not a folder")


def test_an_empty_folder_is_refused(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no config.json")


def test_a_bundle_is_no_checkpoint(refused, bundle):
    refused(bundle("e2b"), "no config.json")


# config.json


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"gemma4"', "\udcff", DEEP])
def test_a_broken_config_is_refused(refused, source, text):
    (source / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    refused(source, "config.json")


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "", None, 4, ["gemma4"]])
def test_not_a_gemma_is_refused(refused, source, model_type):
    change_config(source, model_type=model_type)
    refused(source, f"model_type {model_type!r} is not a Gemma", "supported: Gemma 4")


def test_mixture_of_experts_is_refused(refused, source):
    change_config(source, enable_moe_block=True, num_experts=8)
    refused(source, "mixture-of-experts layers are not supported")


@pytest.mark.parametrize("name", ["e2b", "gemma3"])
@pytest.mark.parametrize("junk", [None, -1, 0, 2**40, 1e999, float("nan"), "x", [], ["x"], {}, {"x": []}])
def test_junk_in_any_field_never_ends_in_a_traceback(checkpoint, tmp_path, name, junk):
    folder, refusals = shutil.copytree(checkpoint(name), tmp_path / name), []
    raw = json.loads((folder / "config.json").read_text())
    for field in raw:
        (folder / "config.json").write_text(json.dumps(raw | {field: junk}))
        try:
            Checkpoint.open(folder)
        except GemmaError as error:
            refusals.append(str(error))
    assert len(refusals) >= 5
    assert all(str(folder) in refusal for refusal in refusals)


# The weights


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, -1])
def test_truncated_weights_are_refused(refused, source, kept):
    raw = (source / WEIGHTS).read_bytes()
    (source / WEIGHTS).write_bytes(raw[: int(kept * len(raw)) if kept == 0.5 else kept])
    refused(source, WEIGHTS, "not a valid safetensors file")


@pytest.mark.parametrize("length", [0, 5, 2**31, 2**63, 2**64 - 1])
def test_a_header_that_lies_about_its_length_is_refused(refused, source, length):
    raw = (source / WEIGHTS).read_bytes()
    (source / WEIGHTS).write_bytes(struct.pack("<Q", length) + raw[8:])
    refused(source, "not a valid safetensors file")


@pytest.mark.parametrize(
    "entry",
    [
        {"shape": [10**6, 64]},
        {"shape": [-1, 64]},
        {"dtype": "F7"},
        {"data_offsets": [0, 4]},
        {"data_offsets": [2**60, 2**60 + 98304]},
        {"data_offsets": [98304, 0]},
    ],
)
def test_a_header_that_lies_about_a_tensor_is_refused(refused, source, entry):
    change_header(source / WEIGHTS, lambda header: header["model.embed_tokens.weight"].update(entry))
    refused(source, "not a valid safetensors file")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "tensor",
    [
        "embed_tokens.weight",
        "embed_tokens_per_layer.weight",
        "layers.3.mlp.down_proj.weight",
        "layers.0.input_layernorm.weight",
        "layers.6.layer_scalar",
    ],
)
def test_values_that_are_not_finite_are_refused(refused, source, tensor, value):
    change_weights(source, lambda found: found[f"model.{tensor}"].view(-1)[-1:].fill_(value))
    refused(source, WEIGHTS, f"model.{tensor}: 1 values are NaN or Inf")


def test_missing_unexpected_and_misshapen_tensors_are_reported_together(refused, source):
    def change(found: dict[str, torch.Tensor]) -> None:
        del found["model.norm.weight"], found["model.layers.2.self_attn.q_norm.weight"]
        found["model.layers.0.self_attn.sink.weight"] = torch.ones(3)
        found["extra"] = torch.ones(1)
        found["model.layers.1.mlp.up_proj.weight"] = torch.ones(5, 6)

    change_weights(source, change)
    refused(
        source,
        "2 missing: norm.weight, layers.2.self_attn.q_norm.weight",
        "2 unexpected: ",
        "model.layers.0.self_attn.sink.weight",
        "extra",
        "1 misshapen: layers.1.mlp.up_proj.weight [5, 6] instead of [96, 64]",
    )


def test_a_long_list_of_misfits_is_cut(refused, source):
    change_weights(source, lambda found: [found.pop(name) for name in list(found) if ".mlp." in name])
    refused(source, "21 missing: ", "and 13 more")


@pytest.mark.parametrize("dtype", [torch.int32, torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_a_dtype_that_is_not_supported_is_refused(refused, source, dtype):
    name = "model.layers.1.mlp.up_proj.weight"
    change_weights(source, lambda found: found.update({name: torch.ones(96, 64).to(dtype)}))
    refused(source, "1 of an unsupported dtype: layers.1.mlp.up_proj.weight")


@pytest.mark.parametrize(
    ("prefix", "step"),
    [("_orig_mod.", "torch.compile"), ("base_model.model.", "merge_and_unload"), ("module.", "DataParallel")],
)
def test_names_that_a_wrapper_gave_are_refused_with_what_unwraps_them(refused, source, prefix, step):
    change_weights(source, lambda weights: [weights.update({prefix + name: weights.pop(name)}) for name in [*weights]])
    refused(source, "unexpected: ", step)


def test_a_pickle_is_never_read(refused, source):
    (source / WEIGHTS).unlink()
    (source / "pytorch_model.bin").write_bytes(b"cos\nabort\n(tR.")
    refused(source, "pytorch_model.bin is a pickle and is never read")


def test_a_folder_without_weights_is_refused(refused, source):
    (source / WEIGHTS).unlink()
    refused(source, f"no {WEIGHTS}")


@pytest.mark.parametrize("name", ["../x", "../source/model.safetensors", "/etc/hostname", "a/b", "..", ""])
def test_an_index_that_names_a_file_elsewhere_is_refused(refused, source, name):
    (source / WEIGHTS).rename(source.parent / "x")
    (source / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": name}}))
    refused(source, repr(name) if "/" in name else f"no {name}")


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": 3}'])
def test_a_broken_index_is_refused(refused, source, index):
    (source / WEIGHTS).unlink()
    (source / INDEX).write_text(index)
    refused(source, INDEX)


@pytest.mark.parametrize("text", [None, "", "{", '{"model": 1}'])
def test_a_missing_or_broken_tokenizer_is_refused(refused, source, text):
    (source / "tokenizer.json").unlink()
    if text is not None:
        (source / "tokenizer.json").write_text(text)
    refused(source, "tokenizer.json")
    refused(source, "tokenizer.json", words=("--dry-run",))


@pytest.mark.parametrize("text", ["{", "[]", '{"eos_token_id": "x"}', '{"top_k": [1]}', '{"temperature": {"x": 1}}'])
def test_broken_generation_defaults_are_refused(refused, source, text):
    (source / "generation_config.json").write_text(text)
    refused(source, "generation_config.json")
    refused(source, "generation_config.json", words=("--dry-run",))


def test_a_template_that_is_not_utf8_is_refused(refused, source):
    (source / "chat_template.jinja").write_bytes(b"\xff\xfe")
    refused(source, "chat_template.jinja is not UTF-8")
    refused(source, "chat_template.jinja is not UTF-8", words=("--dry-run",))


# What was asked for, and where it goes.


def test_an_unknown_recipe_is_refused_with_the_list(refused, source):
    refused(source, "unknown recipe: int3", "int4-mixed", words=("--recipe", "int3"))


@pytest.mark.parametrize("target", ["tflite", "onnx,tflite", "", "../to_onnx"])
def test_an_unknown_target_is_refused_with_the_list(refused, source, target):
    refused(source, "unknown target: ", "choose from", "onnx", words=("--to", target))


@pytest.mark.parametrize("kind", ["bundle", "folder", "file", "link"])
def test_a_destination_that_exists_is_refused(refused, source, bundle, out, kind):
    occupy(out / "x.bundle", kind, bundle("e2b"))
    refused(source, f"{out / 'x.bundle'} already exists", "--force")
    refused(source, f"{out / 'x.bundle'} already exists", "--force", words=("--dry-run",))


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_force_never_replaces_what_is_not_a_bundle(refused, source, bundle, out, kind):
    occupy(out / "x.bundle", kind, bundle("e2b"))
    refused(source, "exists and is not a bundle", words=("--force",))


def occupy(path: Path, kind: str, bundle: Path) -> None:
    if kind == "bundle":
        shutil.copytree(bundle, path)
    elif kind == "folder":
        path.mkdir()
        (path / "thesis.txt").write_text("the only copy")
    elif kind == "file":
        path.write_text("the only copy")
    else:
        path.symlink_to("nowhere")


def test_a_failed_export_leaves_the_bundle_that_force_would_replace(refused, source, bundle, out):
    occupy(out / "x.bundle", "bundle", bundle("e2b"))
    change_weights(source, lambda found: found["model.norm.weight"].fill_(np.nan))
    refused(source, "NaN or Inf", words=("--force",))
    Bundle.open(out / "x.bundle")


def test_a_destination_below_a_file_is_refused(refused, source, out):
    (out / "file").write_text("a file")
    refused(source, f"{out / 'file' / 'x.bundle'}: Not a directory", to=out / "file" / "x.bundle")


def test_a_destination_with_a_name_that_is_too_long_is_refused(refused, source, out):
    refused(source, "File name too long", to=out / ("x" * 300))


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A stand-in for a full disk: no file of this process grows past `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [10_000, 60_000, 100_000, 1_000_000])  # tokenizer, weights, rows, graph
def test_a_full_disk_is_refused(refused, source, out, size):
    with largest_file(size):
        refused(source, f"{out / 'x.bundle'}: ", "free some space")


KILLED = """
import dataclasses, os, signal, sys
from pathlib import Path
from export.pipeline import export_bundle
from export.targets import find_target
from quantize.recipe import RECIPES
from runtime.bundle import bundle

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[3] == "sealing":
    bundle.seal_of = kill
onnx = find_target("onnx")
target = dataclasses.replace(onnx, lower=kill) if sys.argv[3] == "lowering" else onnx
export_bundle(sys.argv[1], Path(sys.argv[2]), [target], RECIPES["float"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["lowering", "sealing"])  # rows are written; then the manifest too
def test_a_killed_export_leaves_no_bundle_and_the_next_one_cleans_up(checkpoint, out, moment):
    words = [str(checkpoint("e2b")), str(out / "x.bundle"), moment]
    environment = {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", KILLED, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    left = [out, *(path for path in out.rglob("*") if path.is_dir())]
    assert len(left) > 2, "killed before it began"
    assert not (out / "x.bundle").exists()
    for folder in left:
        with pytest.raises(GemmaError):
            Bundle.open(folder)
    assert main(["export", *words[:1], "-o", words[1], "--recipe", "float"]) == 0
    assert [path.name for path in out.iterdir()] == ["x.bundle"]
    Bundle.open(out / "x.bundle").check_hashes()


@pytest.mark.slow
def test_force_replaces_a_bundle_and_leaves_nothing_beside_it(checkpoint, bundle, out, capsys):
    occupy(out / "x.bundle", "bundle", bundle("e2b"))
    (out / "x.bundle" / "old").write_text("of the old bundle")
    code = main(["export", str(checkpoint("gemma3")), "-o", str(out / "x.bundle"), "--recipe", "float", "--force"])
    assert (code, capsys.readouterr().out) == (0, f"{out / 'x.bundle'}\n")
    assert [path.name for path in out.iterdir()] == ["x.bundle"]
    assert not (out / "x.bundle" / "old").exists()
    assert Bundle.open(out / "x.bundle").manifest.model.family == "gemma3"


def test_the_undamaged_copy_is_sound(source):
    assert len(Checkpoint.open(source).config.layers) == tiny.CONFIGS["e2b"]["num_hidden_layers"]


def test_force_never_replaces_a_link(bundle, tmp_path):
    link = tmp_path / "link.bundle"
    link.symlink_to(bundle("e2b"))
    with pytest.raises(GemmaError, match="is not a bundle"):
        check_destination(link, replace=True)
    assert link.is_symlink()
