"""Integers that suit the text: for every family, the same every time, going on where a kill stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from export.calibrate.cost import projected_seconds
from export.calibrate.layers import calibrate
from export.calibrate.store import CalibrationKey, Store, stored
from export.calibrate.text import AUTO, Text, sequences
from export.checkpoint.checkpoint import Checkpoint
from export.pipeline import export_bundle, prepare
from export.reference import FloatSource
from export.weights.plan import storage_plan
from quantize.recipe import RECIPES, Gate
from runtime.bundle.bundle import Bundle
from runtime.cli.main import main
from runtime.errors import GemmaError
from runtime.language.tokenizer import Tokenizer
from tests import tiny
from tests.conftest import SAMPLE, SHORT_TEXT

RECIPE = dataclasses.replace(RECIPES["int4-b32"], floor=Gate(0, 100))  # random weights: nothing to agree on
QUICK = dataclasses.replace(RECIPES["int4-quick"], floor=Gate(0, 100))


def calibrated(
    checkpoint: Path, destination: Path, progress: Callable[[float], None] = lambda done: None
) -> dict[str, str]:
    """The hash of everything that a calibration leaves for the export."""
    prepared = prepare(Checkpoint.open(checkpoint), {}, RECIPE, settings=SHORT_TEXT)
    assert prepared.calibration_key is not None
    source, store = FloatSource(prepared.checkpoint), Store(destination, prepared.calibration_key)
    if not store.has("text"):
        speaker = Tokenizer(checkpoint / "tokenizer.json", 2, checkpoint / "chat_template.jinja")
        amounts, stop = SHORT_TEXT.text, [1, 106, 50]
        store.save("text", sequences(AUTO, 512, amounts, source, speaker, stop, lambda done: None))
    calibrate(source, np.array(store.load("text")), RECIPE, prepared.plan, store, progress)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in store.units.iterdir()}


@pytest.fixture(scope="module")
def whole(checkpoint, tmp_path_factory):
    """Calibrated in one go."""
    return cache(lambda name: calibrated(checkpoint(name), tmp_path_factory.mktemp("whole") / "x"))


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
def test_a_calibration_that_is_stopped_after_a_layer_goes_on_there(checkpoint, whole, tmp_path, layers):
    done = []

    def stop_there(advanced):
        done.append(advanced)
        if done == [0, *[1] * layers]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrated(checkpoint("e2b"), tmp_path / "x", stop_there)
    assert calibrated(checkpoint("e2b"), tmp_path / "x", done.append) == whole("e2b")
    assert done == [0, *[1] * layers, layers, *[1] * (7 - layers)]


KILLED = """
import dataclasses, os, signal, sys
from pathlib import Path
from export import pipeline
from export.calibrate.amounts import TextAmounts
from export.calibrate.store import Store
from export.request import ExportSettings
from quantize.recipe import RECIPES, Gate

finish = Store.finish

def kill(store, layers, losses):
    finish(store, layers, losses)
    if layers == 3:
        os.kill(os.getpid(), signal.SIGKILL)

Store.finish = kill
settings = ExportSettings(TextAmounts(written_for_gptq=512, sequence=16))
recipe = dataclasses.replace(RECIPES["int4-b32"], floor=Gate(0, 100))
pipeline.export_bundle(sys.argv[1], Path(sys.argv[2]), ["onnx"], recipe, settings=settings)
"""


@pytest.mark.slow
def test_a_killed_export_goes_on_too(checkpoint, tmp_path):
    source = checkpoint("e2b")
    out, other = tmp_path / "x.bundle", tmp_path / "other.bundle"
    words = [sys.executable, "-c", KILLED, str(source), str(out)]
    done = subprocess.run(words, env={"OMP_NUM_THREADS": "1"}, capture_output=True)
    assert done.returncode == -9, done.stderr
    assert (tmp_path / ".x.bundle.calibration" / "hidden.3.npy").is_file()
    for first_bundle in (out, other):
        export_bundle(source, first_bundle, ["onnx"], RECIPE, settings=SHORT_TEXT)
    assert hashes(out) == hashes(other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.bundle", "x.bundle"]


def test_an_interrupt_keeps_the_work_and_an_error_does_not(tmp_path):
    key = CalibrationKey("tool", [], "recipe", "auto", 0)
    for error, kept in ((KeyboardInterrupt, True), (GemmaError("no"), False)):
        with pytest.raises(type(error) if isinstance(error, Exception) else error), stored(tmp_path / "x", key):
            raise error
        assert (tmp_path / ".x.calibration").exists() == kept


def test_what_was_done_for_another_text_is_thrown_away(tmp_path):
    key = CalibrationKey("tool", [], "recipe", "auto", 0)
    Store(tmp_path / "x", key).save("hidden.0", np.zeros(3))
    assert Store(tmp_path / "x", key).has("hidden.0")
    assert not Store(tmp_path / "x", msgspec.structs.replace(key, text="another")).has("hidden.0")


def hashes(folder: Path) -> dict[str, str]:
    return {name: file.sha256 for name, file in Bundle.open(folder).manifest.files.items()}


def test_the_bundle_says_what_it_was_fitted_to(checkpoint, tmp_path, capsys):
    export_bundle(checkpoint("gemma3"), tmp_path / "x.bundle", ["onnx"], QUICK, settings=SHORT_TEXT)
    assert "calibrating on about 512 tokens: about" in capsys.readouterr().err
    source_checkpoint = Bundle.open(tmp_path / "x.bundle").manifest.recipe.calibration
    assert (source_checkpoint.method, source_checkpoint.text, source_checkpoint.seed, source_checkpoint.tokens) == (
        "quick",
        "auto",
        0,
        512,
    )
    assert len(source_checkpoint.sha256) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["x.bundle"]


@pytest.mark.slow
def test_a_file_calibrates_and_is_named_by_its_hash(checkpoint, tmp_path):
    text = tmp_path / "words.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 60)
    export_bundle(checkpoint("e2b"), tmp_path / "x.bundle", ["onnx"], QUICK, text=Text.of(str(text)))
    source_checkpoint = Bundle.open(tmp_path / "x.bundle").manifest.recipe.calibration
    assert source_checkpoint.method == "quick"
    assert source_checkpoint.text.startswith("words.txt sha256:")


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
        (None, (), "to calibrate with"),
        (b"\xff\xfe\xfd", (), "not UTF-8"),
        (b"short", (), "but one window needs"),
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
    source_checkpoint = Checkpoint.open(SAMPLE)
    gptq, quick, double = (
        projected_seconds(
            storage_plan(source_checkpoint, RECIPES[name]),
            len(source_checkpoint.config.layers),
            RECIPES[name],
            tokens,
            written=True,
        )
        for name, tokens in (("int4", 10_000), ("int4-quick", 10_000), ("int4", 20_000))
    )
    assert 0 < quick < gptq < double
