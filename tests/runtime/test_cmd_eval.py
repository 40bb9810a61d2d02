"""`gemma-edge eval`: what it prints, writes and refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from runtime.bundle.bundle import Bundle
from runtime.bundle.sizes import sizes
from runtime.cli import main as cli

WORDS = ["--window-tokens", 32, "--windows", 2, "--threads", 1]
KEYS = ["text", "windows", "window_tokens", "positions", "threads", "against", "bundles"]
BUNDLE_KEYS = ["bundle", "recipe", "bytes", "resident_bytes", "perplexity", "divergence"]
DIVERGENCE_KEYS = ["float_perplexity", "mean_kl", "worst_kl", "agreement", "tv64", "kl_by_position"]


@pytest.fixture
def gemma_edge(capsys):
    """Exit code, standard output, standard error of `gemma-edge eval`."""

    def call(*words: object) -> tuple[int, str, str]:
        return cli.main(["eval", *map(str, words)]), *capsys.readouterr()

    return call


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("It was the best of times, it was the worst of times. Çа va? " * 4, encoding="utf-8")
    return path


def test_a_table_then_one_line_of_json(gemma_edge, bundle, checkpoint, text):
    folders = [bundle("e2b", "int8"), bundle("e2b", "int4-datafree")]
    code, out, err = gemma_edge(*folders, "--text", text, "--against", checkpoint("e2b"), *WORDS)
    *table, last = out.splitlines()
    found = json.loads(last)
    assert (code, err) == (0, "")
    assert list(found) == KEYS
    assert [found[key] for key in KEYS[:-1]] == ["book.txt", 2, 32, 30, 1, "e2b"]
    assert [one["recipe"] for one in found["bundles"]] == ["int8", "int4-datafree"]
    size = sizes(Bundle.open(folders[1]).manifest)
    assert (found["bundles"][1]["bytes"], found["bundles"][1]["resident_bytes"]) == (size["disk"], size["resident"])
    assert {tuple(one) for one in found["bundles"]} == {tuple(BUNDLE_KEYS)}
    assert {tuple(one["divergence"]) for one in found["bundles"]} == {tuple(DIVERGENCE_KEYS)}
    assert [line.split()[0] for line in table] == ["bundle", "e2b", "e2b-int8.bundle", "e2b-int4-datafree.bundle"]
    assert f"{found['bundles'][1]['divergence']['mean_kl']:.3g}" in table[3]


def test_json_is_one_line_and_a_page_is_written(gemma_edge, bundle, text, tmp_path):
    path = tmp_path / "eval.html"
    code, out, err = gemma_edge(bundle("e2b"), "--text", text, *WORDS, "--json", "--html", path)
    assert (code, err, out.count("\n")) == (0, "", 1)
    found = json.loads(out)
    assert found["against"] is None
    assert found["bundles"][0]["divergence"] is None
    made = path.read_text(encoding="utf-8")
    assert f">{found['bundles'][0]['perplexity']:.3f}<" in made
    assert "http" not in made
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["book.txt", "eval.html"]


def test_the_page_has_the_divergence(gemma_edge, bundle, checkpoint, text, tmp_path):
    path = tmp_path / "eval.html"
    words = ("--against", checkpoint("e2b"), *WORDS, "--json", "--html", path)
    found = json.loads(gemma_edge(bundle("e2b", "int4-datafree"), "--text", text, *words)[1])["bundles"][0][
        "divergence"
    ]
    made = path.read_text(encoding="utf-8")
    assert made.count("<svg ") == 2
    assert all(f">{found[key]:.3g}<" in made for key in ("mean_kl", "worst_kl", "tv64"))


def test_perplexity_alone_never_loads_torch(bundle, text, tmp_path):
    code = """
import sys
from runtime.cli.main import main
code = main(["eval", *sys.argv[1:]])
heavy = {"torch", "onnx", "safetensors", "transformers", "ml_dtypes", "export", "quantize"} & set(sys.modules)
sys.exit(f"loaded: {heavy}" if heavy else code)
"""
    words = [bundle("e2b"), "--text", text, *map(str, WORDS), "--json"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(json.loads(done.stdout)) == KEYS


def refused(result: tuple[int, str, str], *words: str) -> None:
    code, out, err = result
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert "hint: " in err
    assert all(word in err for word in words), err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--windows", 0], ["--windows must be at least 1, not 0"]),
        (["--window-tokens", 3], ["--window-tokens must be at least 4, not 3"]),
        (["--window-tokens", 257], ["--window-tokens 257 is over the context", ", 256"]),
        (["--threads", -1], ["--threads must be 0 or more, not -1"]),
        (["--html", "nowhere/eval.html"], ["no folder nowhere"]),
        (["--html", "."], ["error: . is a folder"]),
        (["--against", "nowhere/at/all"], ["there is no folder nowhere/at/all"]),
    ],
)
def test_options_that_can_not_be_run_are_refused(gemma_edge, bundle, text, words, named):
    refused(gemma_edge(bundle("e2b"), "--text", text, *WORDS, *words), *named)


def test_a_missing_text_is_refused(gemma_edge, bundle, tmp_path):
    refused(gemma_edge(bundle("e2b"), "--text", tmp_path / "none.txt", *WORDS), "none.txt: No such file")


@pytest.mark.parametrize(
    ("content", "named"), [(b"caf\xe9 " * 50, "not UTF-8"), (b"short", "only 6 tokens, but one window needs 32")]
)
def test_a_text_that_can_not_be_read_is_refused(gemma_edge, bundle, tmp_path, content, named):
    path = tmp_path / "book.txt"
    path.write_bytes(content)
    refused(gemma_edge(bundle("e2b"), "--text", path, *WORDS), "book.txt", named)


@pytest.mark.slow
def test_bundles_that_read_other_tokens_are_refused(gemma_edge, bundle, text):
    words = ("--text", text, *WORDS)
    refused(gemma_edge(bundle("e2b"), bundle("sample"), *words), "as different tokens", "sample-float.bundle")


def test_a_page_that_can_not_be_written_leaves_nothing(gemma_edge, bundle, text, tmp_path):
    (tmp_path / ".x.html.part").symlink_to("/dev/full")  # Linux's disk that is full
    refused(gemma_edge(bundle("e2b"), "--text", text, *WORDS, "--html", tmp_path / "x.html"), "No space left")
    assert [entry.name for entry in tmp_path.iterdir()] == ["book.txt"]
