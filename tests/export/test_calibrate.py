"""Integers that suit the text: for every family, the same every time, going on where a kill stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tiny
from conftest import SAMPLE

from export.calibrate import text as calibration_text
from export.calibrate.cost import projected_seconds
from export.calibrate.store import Key, Store, stored
from export.calibrate.text import AUTO, Text
from export.checkpoint.checkpoint import Checkpoint
from export.pipeline import calibration, export_bundle, key_of
from export.reference import FloatSource
from export.weights.plan import storage_plan
from quantize.recipe import RECIPES, Gate, Recipe
from runtime.bundle.bundle import Bundle
from runtime.cli.main import main
from runtime.errors import GemmaError
from runtime.language.tokenizer import Tokenizer

RECIPE = dataclasses.replace(RECIPES["int4-b32"], floor=Gate(0, 100))  # random weights: nothing to agree on
QUICK = dataclasses.replace(RECIPES["int4-quick"], floor=Gate(0, 100))


@pytest.fixture(autouse=True)
def short_text(monkeypatch):
    monkeypatch.setattr(calibration_text, "TOKENS", {"quick": 512, "gptq": 512})
    monkeypatch.setattr(calibration_text, "LENGTH", 16)


def speaker(checkpoint: Path) -> Tokenizer:
    return Tokenizer(checkpoint / "tokenizer.json", 2, checkpoint / "chat_template.jinja")


def calibrated(checkpoint: Path, destination: Path, recipe: Recipe = RECIPE) -> dict[str, str]:
    """The hash of everything that a calibration leaves for the export."""
    found = Checkpoint.open(checkpoint)
    store = Store(destination, key_of(found, recipe, AUTO))
    plan = storage_plan(found, recipe)
    calibration(FloatSource(found), speaker(checkpoint), [1, 106, 50], recipe, plan, AUTO, store)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in store.units.iterdir()}


@pytest.fixture(scope="module")
def whole(checkpoint, tmp_path_factory):
    """Calibrated in one go."""

    @cache
    def make(name: str) -> dict[str, str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(calibration_text, "TOKENS", {"quick": 512, "gptq": 512})
            patch.setattr(calibration_text, "LENGTH", 16)
            return calibrated(checkpoint(name), tmp_path_factory.mktemp("whole") / "x")

    return make


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_every_layer_has_its_integers_and_the_same_seed_makes_the_same_bytes(checkpoint, whole, tmp_path, name):
    hashes = calibrated(checkpoint(name), tmp_path / "x")
    assert hashes == whole(name)
    weights = storage_plan(Checkpoint.open(checkpoint(name)), RECIPE).weights
    expected = {
        f"{weight.parameter}.{suffix}.npy"
        for weight in weights
        if weight.parameter.startswith("layers.")
        for suffix in (("values",) if weight.source == "float" else ("packed", "scales"))
    }
    assert expected == set(hashes)


@pytest.mark.parametrize("layers", range(1, 7))
def test_a_calibration_that_is_stopped_after_a_layer_goes_on_there(checkpoint, whole, tmp_path, monkeypatch, layers):
    finish, finished = Store.finish, []

    def stop_there(store, index, losses):
        finish(store, index, losses)
        finished.append(index)
        if finished == list(range(1, layers + 1)):
            raise KeyboardInterrupt

    monkeypatch.setattr(Store, "finish", stop_there)
    with pytest.raises(KeyboardInterrupt):
        calibrated(checkpoint("e2b"), tmp_path / "x")
    assert calibrated(checkpoint("e2b"), tmp_path / "x") == whole("e2b")
    assert finished == list(range(1, 8))


KILLED = """
import dataclasses, os, signal, sys
from pathlib import Path
from export.calibrate import text as calibration_text
from export import pipeline
from export.calibrate.store import Store
from quantize.recipe import RECIPES, Gate

finish = Store.finish

def kill(store, layers, losses):
    finish(store, layers, losses)
    if layers == 3:
        os.kill(os.getpid(), signal.SIGKILL)

Store.finish, calibration_text.TOKENS, calibration_text.LENGTH = kill, {"quick": 512, "gptq": 512}, 16
recipe = dataclasses.replace(RECIPES["int4-b32"], floor=Gate(0, 100))
pipeline.export_bundle(sys.argv[1], Path(sys.argv[2]), ["onnx"], recipe)
"""


@pytest.mark.slow
def test_a_killed_export_goes_on_too(checkpoint, tmp_path):
    source = checkpoint("e2b")
    out, other = tmp_path / "x.bundle", tmp_path / "other.bundle"
    words = [sys.executable, "-c", KILLED, str(source), str(out)]
    done = subprocess.run(words, env={"OMP_NUM_THREADS": "1"}, capture_output=True)
    assert done.returncode == -9, done.stderr
    assert (tmp_path / ".x.bundle.calibration" / "hidden.3.npy").is_file()
    for one in (out, other):
        export_bundle(source, one, ["onnx"], RECIPE)
    assert hashes(out) == hashes(other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.bundle", "x.bundle"]


def test_an_interrupt_keeps_the_work_and_an_error_does_not(tmp_path):
    key = Key("tool", [], "recipe", "auto", 0)
    for error, kept in ((KeyboardInterrupt, True), (GemmaError("no"), False)):
        with pytest.raises(type(error) if isinstance(error, Exception) else error), stored(tmp_path / "x", key):
            raise error
        assert (tmp_path / ".x.calibration").exists() == kept


def test_what_was_done_for_another_text_is_thrown_away(tmp_path):
    key = Key("tool", [], "recipe", "auto", 0)
    Store(tmp_path / "x", key).save("hidden.0", np.zeros(3))
    assert Store(tmp_path / "x", key).has("hidden.0")
    assert not Store(tmp_path / "x", msgspec.structs.replace(key, text="another")).has("hidden.0")


def hashes(folder: Path) -> dict[str, str]:
    return {name: file.sha256 for name, file in Bundle.open(folder).manifest.files.items()}


def test_the_bundle_says_what_it_was_fitted_to(checkpoint, tmp_path, capsys):
    export_bundle(checkpoint("gemma3"), tmp_path / "x.bundle", ["onnx"], QUICK)
    assert "calibrating on about 512 tokens: about" in capsys.readouterr().err
    found = Bundle.open(tmp_path / "x.bundle").manifest.recipe.calibration
    assert (found.method, found.text, found.seed, found.tokens) == ("quick", "auto", 0, 512)
    assert len(found.sha256) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["x.bundle"]


@pytest.mark.slow
def test_a_file_calibrates_and_is_named_by_its_hash(checkpoint, tmp_path):
    text = tmp_path / "words.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 60)
    export_bundle(checkpoint("e2b"), tmp_path / "x.bundle", ["onnx"], QUICK, text=Text.of(str(text)))
    found = Bundle.open(tmp_path / "x.bundle").manifest.recipe.calibration
    assert found.method == "quick"
    assert found.text.startswith("words.txt sha256:")


@pytest.mark.slow
def test_calibrate_none_is_what_the_datafree_recipe_makes(checkpoint, tmp_path, bundle):
    words = ["--recipe", "int4-b32", "--calibrate", "none"]
    assert main(["export", str(checkpoint("e2b")), "-o", str(tmp_path / "x.bundle"), *words]) == 0
    free = bundle("e2b", "int4-datafree")
    assert hashes(tmp_path / "x.bundle")["onnx/decoder.data"] == hashes(free)["onnx/decoder.data"]
    assert Bundle.open(tmp_path / "x.bundle").manifest.recipe.calibration.method == "none"


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        (None, (), "no such file to calibrate with"),
        (b"\xff\xfe\xfd", (), "not UTF-8"),
        (b"short", (), "less than one window"),
        (b"fine", ("--recipe", "int8"), "recipe int8 is not calibrated"),
    ],
)
def test_a_text_that_can_not_be_used_is_refused(checkpoint, tmp_path, capsys, content, words, message):
    text = tmp_path / "text.txt"
    if content is not None:
        text.write_bytes(content)
    out = tmp_path / "x.bundle"
    assert main(["export", str(checkpoint("e2b")), "-o", str(out), "--calibrate", str(text), *words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert {path.name for path in tmp_path.iterdir()} <= {"text.txt"}


def test_gptq_on_more_tokens_is_projected_to_take_longer():
    found = Checkpoint.open(SAMPLE)
    gptq, quick, double = (
        projected_seconds(
            storage_plan(found, RECIPES[name]), len(found.config.layers), RECIPES[name], tokens, written=True
        )
        for name, tokens in (("int4", 10_000), ("int4-quick", 10_000), ("int4", 20_000))
    )
    assert 0 < quick < gptq < double
