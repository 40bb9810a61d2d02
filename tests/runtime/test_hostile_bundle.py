"""Damaged, truncated, future and hostile bundles: one sentence, no traceback, nothing written."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import onnx
import pytest

from runtime import bundle as bundle_module
from runtime.bundle import MANIFEST, SEAL, Bundle, describe, read_manifest, seal, seal_of, sha256
from runtime.cli import main
from runtime.errors import GemmaError
from runtime.manifest import File
from runtime.row_table import START, RowFormat
from runtime.session import Session

FILES = [
    MANIFEST,
    SEAL,
    "chat_template.jinja",
    "golden.json",
    "onnx/decoder.data",
    "onnx/decoder.onnx",
    "parity.json",
    "tables/per_layer.rows",
    "tables/tokens.rows",
    "tokenizer.json",
    "vocabulary.bin",
]
RUN = ("run", "hello", "--max-new-tokens", "1", "--threads", "1")
BENCH = ("bench", "--prompt-tokens", "2", "--new-tokens", "1", "--repeat", "1", "--threads", "1")
READERS = (RUN, BENCH, ("verify",), ("inspect",))
FLIPS = 40  # positions tried in each file


@pytest.fixture(scope="module")
def sound(bundle):
    return bundle("e2b")


@pytest.fixture
def copy(sound, tmp_path) -> Path:
    return shutil.copytree(sound, tmp_path / "copy.bundle")


@pytest.fixture
def refused(capsys, tmp_path) -> Callable[..., None]:
    """Refused by these commands in one sentence that names `words`, with nothing written or changed."""

    def check(folder: Path, *words: str, commands: tuple[tuple[str, ...], ...] = READERS) -> None:
        before = snapshot(tmp_path)
        for name, *rest in commands:
            code = main([name, str(folder), *rest])
            out, err = capsys.readouterr()
            assert (code, out) == (1, ""), name
            assert err.startswith("error: "), name
            assert "Traceback" not in err, name
            assert all(word in err for word in words), err
        assert snapshot(tmp_path) == before

    return check


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def flip(path: Path, at: int, bit: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1 << bit
    path.write_bytes(raw)


def reseal(folder: Path, change: Callable[[dict], object] = lambda manifest: None) -> None:
    """All sizes and hashes right again, as one who forges a bundle would; `change` edits the manifest."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).unlink()
    (folder / SEAL).unlink()
    manifest["files"] = msgspec.to_builtins(describe(folder))
    change(manifest)
    write_manifest(folder, json.dumps(manifest).encode())


def write_manifest(folder: Path, raw: bytes) -> None:
    (folder / MANIFEST).write_bytes(raw)
    (folder / SEAL).write_bytes(seal_of(raw))


def test_a_copy_is_sound_and_so_is_a_resealed_one(copy):
    assert sorted(path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()) == sorted(FILES)
    Session.open(copy, threads=1)
    reseal(copy)
    Session.open(copy, threads=1)


def test_a_bundle_may_be_reached_through_a_link(copy, tmp_path):
    (tmp_path / "link").symlink_to(copy)
    assert Bundle.open(tmp_path / "link").manifest == read_manifest(copy)


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_anywhere_is_refused(copy, name):
    path, draw = copy / name, random.Random(name)
    raw = path.read_bytes()
    for at in [0, len(raw) - 1, *(draw.randrange(len(raw)) for _ in range(FLIPS))]:
        bit = draw.randrange(8)
        flip(path, at, bit)
        with pytest.raises(GemmaError):
            Bundle.open(copy)
        path.write_bytes(raw)
    Bundle.open(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_one_sentence_in_every_command(copy, refused, name):
    flip(copy / name, (copy / name).stat().st_size // 2, 1)
    refused(copy, str(copy), "hint: ")


def test_a_flipped_bit_in_a_file_too_large_to_hash_at_open_is_found_by_verify(copy, refused, monkeypatch):
    monkeypatch.setattr(bundle_module, "HASHED_AT_OPEN", 0)
    flip(copy / "onnx/decoder.data", 5000, 3)
    Bundle.open(copy)
    refused(copy, "decoder.data: SHA-256", commands=(("verify",),))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0, 0.5, -1])
def test_a_truncated_file_is_refused(copy, refused, name, kept):
    raw = (copy / name).read_bytes()
    (copy / name).write_bytes(raw[: kept if kept == -1 else int(kept * len(raw))])
    refused(copy, str(copy))


@pytest.mark.parametrize("name", sorted({*FILES} - {MANIFEST}))
def test_a_missing_file_is_refused(copy, refused, name):
    (copy / name).unlink()
    refused(copy, name)


def test_a_folder_in_place_of_a_file_is_refused(copy, refused):
    (copy / "golden.json").unlink()
    (copy / "golden.json").mkdir()
    refused(copy, "golden.json: missing")


@pytest.mark.parametrize("version", [[2, 0], [17], [2]])
def test_a_later_format_is_named_as_such(copy, refused, version):
    write_manifest(copy, json.dumps({"format": "gemma-edge", "version": version, "news": {}}).encode())
    refused(copy, f"format {'.'.join(map(str, version))}", "upgrade gemma-edge")


def test_a_later_minor_version_and_unknown_fields_are_read(copy):
    reseal(copy, lambda manifest: manifest.update(version=[1, 99], news={"more": 1}))
    assert Bundle.open(copy).manifest.version == [1, 99]


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/hostname", "..", "", "./x", "a//x", ".hidden", "a\\x", "a\n"]
)
def test_a_name_that_leads_out_of_the_bundle_is_refused(copy, refused, tmp_path, name):
    outside = tmp_path / "x"
    outside.write_bytes(b"outside")
    entry = msgspec.to_builtins(File(size=7, sha256=sha256(outside)))
    reseal(copy, lambda manifest: manifest["files"].update({name: entry}))
    refused(copy, f"{name!r} is not a name inside the bundle")


@pytest.mark.parametrize("name", ["tokenizer.json", "tables"])
def test_a_link_out_of_the_bundle_is_refused(copy, refused, tmp_path, name):
    (copy / name).rename(tmp_path / "outside")
    (copy / name).symlink_to(tmp_path / "outside")
    refused(copy, name, "leads out of the bundle")


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("location", ["../../outside.data", "absolute"])
def test_external_data_outside_the_bundle_is_refused(copy, refused, tmp_path, location, link):
    outside = tmp_path / "outside.data"
    shutil.copyfile(copy / "onnx/decoder.data", outside)
    location = str(outside) if location == "absolute" else location
    if link:
        (copy / "onnx" / "linked.data").symlink_to(location)
        location = "linked.data"
    model = onnx.load(copy / "onnx/decoder.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (copy / "onnx/decoder.onnx").write_bytes(model.SerializeToString())
    reseal(copy, lambda manifest: manifest["files"].pop("onnx/linked.data", None))
    refused(copy, "onnxruntime refuses it", commands=(RUN, BENCH, ("verify",)))


@pytest.mark.parametrize("damage", [b"", b"not a graph", b"\x08\x0a" * 1000])
def test_a_graph_that_is_none_is_refused(copy, refused, damage):
    (copy / "onnx/decoder.onnx").write_bytes(damage)
    reseal(copy)
    refused(copy, "onnxruntime refuses it", commands=(RUN, BENCH, ("verify",)))


@pytest.mark.parametrize(
    "header",
    [
        b"GEMROWS2".ljust(START, b"\0"),
        b"",
        RowFormat(10**6, 1, 64, 32, 0).header(),
        RowFormat(384, 1, 64, 8, 1).header(),
        RowFormat(384, 1, 0, 32, 0).header(),
        RowFormat(384, 1, 64, 31, 0).header(),
        RowFormat(384, 1, 128, 16, 0).header(),  # as many bytes, but not this model's rows
        RowFormat(384, 2, 32, 32, 0).header(),
    ],
)
def test_a_row_file_whose_header_lies_is_refused(copy, refused, header):
    path = copy / "tables/tokens.rows"
    path.write_bytes(header + path.read_bytes()[START:])
    reseal(copy)
    refused(copy, str(copy), commands=(RUN, BENCH, ("verify",)))


OTHER = {"int8": "float32", "float32": "int8"}


def set_model(**values: object) -> Callable[[dict], object]:
    return lambda manifest: manifest["model"].update(values)


@pytest.mark.parametrize(
    "change",
    [
        set_model(vocab_size=10**15),
        set_model(vocab_size=385),
        set_model(hidden_size=10**6),
        set_model(layers=1),
        set_model(own_kv_layers=100),
        set_model(per_layer_dim=0),
        set_model(window=-1),
        set_model(window=10**12),
        set_model(context=0),
        set_model(caches=[]),
        set_model(rope={}),
        lambda manifest: [one.update(dtype=OTHER[one["dtype"]]) for one in manifest["model"]["caches"]],
        lambda manifest: [one.update(head_dim=2 * one["head_dim"]) for one in manifest["model"]["caches"]],
        lambda manifest: manifest.update(tables={}),
        lambda manifest: manifest.update(artifacts={}),
        lambda manifest: manifest.update(tokenizer="golden.json"),
    ],
)
def test_a_manifest_that_does_not_fit_its_files_is_refused(copy, refused, change):
    reseal(copy, change)
    refused(copy, "hint: ", commands=(RUN,))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda manifest: manifest.pop("generation"), "`generation`"),
        (lambda manifest: manifest.update(format="other"), "format"),
        (lambda manifest: manifest.update(version="1"), "version"),
        (set_model(layers="seven"), "$.model.layers"),
        (lambda manifest: manifest["files"].update({"x": {"size": 1}}), "$.files"),
        (lambda manifest: manifest.update(tokenizer="x.json"), "'x.json' is used but not listed"),
        (lambda manifest: manifest["tables"]["tokens"].update(file="../x"), "'../x' is used but not listed"),
        (lambda manifest: manifest["artifacts"]["onnx"].update(data="x"), "'x' is used but not listed"),
    ],
)
def test_a_manifest_with_a_wrong_field_is_refused_with_its_path(copy, refused, change, named):
    reseal(copy, change)
    refused(copy, MANIFEST, named)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_no_manifest_is_refused(copy, refused, raw):
    write_manifest(copy, raw)
    refused(copy, MANIFEST)


GOLDEN = {"prompt": [5], "ids": [7], "top_ids": [[7]], "top_logits": [[1.0]]}


@pytest.mark.parametrize(
    "prompts",
    [
        [],
        [GOLDEN | {"prompt": []}],
        [GOLDEN | {"ids": []}],
        [GOLDEN | {"top_ids": [[]], "top_logits": [[]]}],
        [GOLDEN | {"top_ids": [[7, 8]]}],
        [GOLDEN | {"top_ids": [[10**6]]}],
        [GOLDEN | {"ids": [-1]}],
    ],
)
def test_golden_answers_that_prove_nothing_are_refused(copy, refused, prompts):
    (copy / "golden.json").write_text(json.dumps({"tolerance": 1e9, "prompts": prompts}))
    reseal(copy)
    refused(copy, "golden", commands=(("verify",),))


@pytest.mark.parametrize(
    "template",
    [
        b"\xff",
        b"{% if",
        b"{{ 1 / 0 }}",
        b"{{ messages[9].content }}",
        b"{{ ''.__class__.__mro__[1].__subclasses__() }}",
    ],
)
def test_a_template_that_fails_is_refused(copy, refused, template):
    (copy / "chat_template.jinja").write_bytes(template)
    reseal(copy)
    refused(copy, "template", commands=(RUN,))


def test_what_is_not_a_bundle_is_refused(refused, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("a file")
    for name in ("folder", "file"):
        refused(tmp_path / name, "not a bundle", "gemma-edge export", commands=(RUN, BENCH, ("verify",)))
    refused(tmp_path / "nothing", "check the path", commands=(RUN, BENCH, ("verify",)))
    for name in ("folder", "file", "nothing"):
        refused(tmp_path / name, str(tmp_path / name), commands=(("inspect",),))


def test_a_checkpoint_is_no_bundle_and_the_hint_says_so(refused, checkpoint):
    refused(checkpoint("e2b"), "looks like a checkpoint", commands=(RUN, BENCH, ("verify",)))


def test_seal_is_the_line_that_sha256sum_checks(copy):
    seal(copy, read_manifest(copy))
    assert (copy / SEAL).read_text() == f"{sha256(copy / MANIFEST)}  {MANIFEST}\n"
