"""Damaged, truncated, future and hostile bundles: one sentence, no traceback, nothing written."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.bundle.bundle import HASHED_AT_OPEN, MANIFEST, SEAL, Bundle, read_manifest, seal, sha256
from runtime.cli.main import main
from runtime.engine.sampler import Sampling
from runtime.errors import GemmaError
from runtime.session.model import Model
from tests.hostile import CASES, FILES, FUNCTION, flip, reseal, with_part

RUN = ("run", "hello", "--max-new-tokens", "1", "--threads", "1")
BENCH = ("bench", "--prompt-tokens", "2", "--new-tokens", "1", "--repeat", "1", "--threads", "1")
READERS = (RUN, BENCH, ("verify",), ("inspect",))
COMMANDS = {words[0]: words for words in READERS}
FLIPS = 40  # positions tried in each file


@pytest.fixture(scope="module")
def sound(bundle):
    return bundle("e2b")


@pytest.fixture
def copy(sound, tmp_path: Path) -> Path:
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


def test_a_copy_is_sound_and_so_is_a_resealed_one(copy):
    assert sorted(path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()) == sorted(FILES)
    Model.open(copy, threads=1).session()
    reseal(copy)
    Model.open(copy, threads=1).session()


def test_a_bundle_may_be_reached_through_a_link(copy, tmp_path):
    (tmp_path / "link").symlink_to(copy)
    assert Bundle.open(tmp_path / "link").manifest == read_manifest(copy)


@pytest.fixture
def cached(sound, tmp_path: Path) -> Path:
    """The bundle as the hub's cache has it: links into a folder of files that are called by their hashes."""
    folder, blobs = tmp_path / "models--a--b" / "snapshots" / "main", tmp_path / "models--a--b" / "blobs"
    blobs.mkdir(parents=True)
    for name in FILES:
        path, blob = folder / name, blobs / sha256(sound / name)
        shutil.copyfile(sound / name, blob)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(blob, path.parent))
    return folder


def test_a_bundle_in_the_hubs_cache_answers_as_a_plain_one(cached, sound, capsys):
    assert main(["verify", str(cached)]) == 0
    capsys.readouterr()
    prompt = [2, 105, 200, 210, 106]
    said = [
        list(Model.open(folder, threads=1).session().generate(prompt, Sampling(0.0), 8))[:-1]
        for folder in (cached, sound)
    ]
    assert said[0] == said[1]


def test_what_a_link_leads_to_is_hashed_unless_it_is_called_by_its_hash(cached):
    data = cached / "onnx/decoder.data"
    blob = data.resolve()
    flip(blob, 5000, 3)
    with pytest.raises(GemmaError, match="decoder.data has the SHA-256"):
        Bundle.open(cached, hashed_up_to=0).check_hashes()
    blob.rename(blob.with_name("other"))
    data.unlink()
    data.symlink_to(blob.with_name("other"))
    with pytest.raises(GemmaError, match="decoder.data has the SHA-256"):
        Bundle.open(cached, hashed_up_to=0)
    flip(blob.with_name("other"), 5000, 3)
    Bundle.open(cached, hashed_up_to=0)


def test_a_pipe_is_no_file_of_a_bundle(copy):
    for name in ("tokenizer.json", "onnx/decoder.data"):
        path = copy / name
        aside = path.rename(path.with_name("aside"))
        os.mkfifo(path)
        with pytest.raises(GemmaError, match=f"{name}: missing"):
            Bundle.open(copy)
        path.unlink()
        aside.rename(path)


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


@pytest.mark.parametrize("case", [case for case in CASES if case.commands], ids=lambda case: case.name)
def test_damage_is_refused_in_one_sentence(copy, refused, case):
    case.damage(copy)
    refused(copy, *case.words, "hint: ", commands=tuple(COMMANDS[name] for name in case.commands))


def test_no_two_cases_share_a_name():
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_flipped_bit_in_a_file_too_large_to_hash_at_open_is_found_by_verify(copy, refused):
    large = copy / "large.data"
    large.touch()
    os.truncate(large, HASHED_AT_OPEN + 1)
    reseal(copy)
    with large.open("r+b") as file:
        file.write(b"\1")
    Bundle.open(copy)
    refused(copy, "large.data has the SHA-256", commands=(("verify",),))


def test_a_later_minor_version_and_unknown_fields_are_read(copy):
    reseal(copy, lambda manifest: manifest.update(version=[1, 99], news={"more": 1}))
    assert Bundle.open(copy).manifest.version == [1, 99]


def test_parts_of_a_later_minor_version_are_read(copy):
    """A kind that nobody knows, fields that came later, and a target that does not run here."""
    artifact = {"file": "onnx/decoder.onnx", "data": "", "inputs": [], "outputs": [], "operators": {}, "news": 1}
    settings = {"on": True, "size": -3, "scale": 0.5, "name": "x", "sizes": [70, 0.5]}
    fields = {"kind": "later", "artifacts": {"npu": artifact}, "settings": settings, "news": {"more": [1]}}
    reseal(copy, with_part("later", **fields, functions={"onnx": [FUNCTION | {"news": 1}]}))
    reseal(copy, lambda manifest: manifest.update(version=[1, 99]))
    part = Bundle.open(copy).manifest.parts["later"]
    assert (part.kind, part.settings, part.functions["onnx"][0].name) == ("later", settings, "draft")


def test_a_bundle_with_parts_answers_as_without(copy, sound, capsys):
    reseal(copy, with_part())
    assert main(["verify", str(copy)]) == 0
    capsys.readouterr()
    assert Bundle.open(copy).manifest.used() == Bundle.open(sound).manifest.used()


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
    before = (copy / MANIFEST).read_bytes()
    seal(copy, read_manifest(copy))
    assert (copy / MANIFEST).read_bytes() == before
    assert (copy / SEAL).read_text() == f"{sha256(copy / MANIFEST)}  {MANIFEST}\n"
