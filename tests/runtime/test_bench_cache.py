"""`bench --shape`: a bundle without a checkpoint, made once, listed and removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from export import synth_bundle
from export.pipeline import export_bundle
from export.synth.shapes import named_shape
from export.synth.write import synthesize
from quantize.recipe import RECIPES
from runtime.bundle.bundle import Bundle
from runtime.cli import cmd_bench
from runtime.cli import main as cli
from runtime.errors import GemmaError
from runtime.measure.bench_cache import cache_folder, cached

ROOT = Path(__file__).parents[2]
SHORT = ["--prompt-tokens", "8", "--new-tokens", "2", "--repeat", "1", "--threads", "1", "--json"]
MADE = ["bench", "--shape", "e2b-tiny", "--recipe", "float", *SHORT]


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gemma-edge"


@pytest.fixture
def call(capfd):
    def words(*given: str) -> tuple[int, str, str]:
        return cli.main(list(given)), *capfd.readouterr()

    return words


@pytest.mark.slow
def test_a_shape_is_made_once_measured_listed_and_removed(home, call):
    code = "import sys; from runtime.cli.main import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, *MADE], cwd=ROOT, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    assert figures["decode_tok_s"] > 0
    assert figures["peak_rss_bytes"] < 150_000_000, "making it is in the peak: the exporter's libraries alone take more"
    assert "only the first time" in done.stderr
    ((folder, size),) = cached()
    assert (folder.parent, Bundle.open(folder).manifest.provenance.checkpoint) == (home, "generated-e2b-tiny")
    assert not list(home.rglob("*.safetensors"))

    made = (folder / "bundle.json").stat()
    assert call(*MADE)[0] == 0
    assert (folder / "bundle.json").stat() == made
    code, out, _ = call("bench", "--cached")
    assert (code, out) == (0, f"{size / 1e9:6.1f} GB  {folder}\n")
    (home / ".e2b-float.bundle.part").mkdir()
    assert call("bench", "--clean")[0] == 0
    assert list(home.iterdir()) == []


@pytest.mark.slow
def test_it_is_the_bundle_of_the_checkpoint_that_was_not_written(home, tmp_path):
    found = synth_bundle.cached_bundle("e2b-tiny", "float")
    synthesize(named_shape("e2b-tiny"), tmp_path / "written", synth_bundle.SEED, replace=False)
    export_bundle(tmp_path / "written", tmp_path / "x.bundle", ["onnx"], RECIPES["float"])
    files = [Bundle.open(folder).manifest.files for folder in (found, tmp_path / "x.bundle")]
    assert files[0].keys() == files[1].keys()
    assert {name for name in files[0] if files[0][name] != files[1][name]} == set()


def test_other_code_makes_another_bundle(home):
    shape, recipe = named_shape("e2b-tiny"), RECIPES["float"]
    now = synth_bundle.fingerprint(shape, recipe)
    assert now == synth_bundle.fingerprint(shape, recipe)
    assert synth_bundle.fingerprint(shape, recipe, rooms=("export",)) != now


@pytest.mark.parametrize(("given", "where"), [("", ".cache/gemma-edge"), ("relative", ".cache/gemma-edge")])
def test_without_a_cache_folder_it_is_the_usual_one(given, where, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert cache_folder() == tmp_path / where


def test_nothing_cached_is_nothing_said(home, call):
    assert call("bench", "--cached") == (0, "", "")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--shape", "e9b"], "unknown shape: e9b"),
        (["x.bundle", "--recipe", "int4"], "--recipe int4 needs --shape"),
    ],
)
def test_refused(words, named, home, call):
    code, out, err = call("bench", *words)
    assert (code, out) == (1, "")
    assert named in err
    assert not home.exists()


def test_an_unknown_recipe_is_refused(home):
    with pytest.raises(GemmaError, match="unknown recipe: int3"):
        cmd_bench.synth_bundle("e2b-tiny", "int3")
    assert not home.exists()


def test_a_maker_that_the_system_ends_is_an_error():
    with pytest.raises(GemmaError, match="--shape e2b: the system ended its process"):
        cmd_bench.apart("--shape e2b", os._exit, 1)


@pytest.mark.parametrize("words", [[], ["x.bundle", "--shape", "e2b"], ["--cached", "--clean"]])
def test_one_thing_at_a_time(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["bench", *words])
