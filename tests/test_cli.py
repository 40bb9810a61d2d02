"""The command line: people script against these words, streams and exit codes."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.bundle.bundle import describe, read_manifest, seal
from runtime.cli import main as cli
from runtime.language.tokenizer import Tokenizer
from runtime.measure.golden import Goldens
from runtime.session.model import Model
from tests.rewrite_golden import ANSWERS, GOLDEN

RUN_KEYS = ["prompt_ids", "ids", "text", "stop", "prefill_tok_s", "decode_tok_s", "ttft_s"]
BENCH_KEYS = {"prefill_tok_s", "decode_tok_s", "ttft_s", "load_s", "peak_rss_bytes", "settings"}
BENCH = ["--prompt-tokens", "8", "--new-tokens", "3", "--repeat", "2", "--threads", "1"]
CONTEXT = 256  # of the tiny checkpoints


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def folder(bundle):
    return str(bundle("e2b"))


@pytest.fixture
def gemma_edge(capsys):
    """Exit code, standard output, standard error of one command."""

    def call(*words: object) -> tuple[int, str, str]:
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def answer(gemma_edge, folder):
    """The JSON of a short `run`, after checking that it is one line and nothing else."""

    def call(*words: object) -> dict[str, Any]:
        code, out, err = gemma_edge("run", folder, *words, "--json", "--threads", 1)
        assert (code, err) == (0, "")
        assert out.count("\n") == 1
        values: dict[str, Any] = json.loads(out)
        return values

    return call


def refused(result: tuple[int, str, str], *words: str) -> None:
    code, out, err = result
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert all(word in err for word in words), err


@pytest.mark.parametrize("name", [name for name in ANSWERS if name.startswith("help/")])
def test_help_is_as_committed(name):
    assert ANSWERS[name]() == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(("columns", "least", "most"), [("50", 40, 50), ("90", 80, 90), ("300", 90, 100)])
def test_help_is_as_wide_as_the_terminal_up_to_100_columns(gemma_edge, monkeypatch, columns, least, most):
    monkeypatch.setenv("COLUMNS", columns)
    _, out, _ = gemma_edge("inspect", "--help")
    assert least < max(map(len, out.splitlines())) <= most


@pytest.mark.parametrize("words", [[], ["fly"], ["fly", "--help-me"], ["run"], ["bench", "x", "--repeat", "many"]])
def test_wrong_usage_is_2_and_on_standard_error(gemma_edge, words):
    code, out, err = gemma_edge(*words)
    assert (code, out) == (2, "")
    assert err.startswith("usage: gemma-edge")


def test_version_is_the_distributions(gemma_edge):
    assert gemma_edge("--version") == (0, f"gemma-edge {version('gemma-edge')}\n", "")


def test_interrupted_is_130(gemma_edge, folder, monkeypatch):
    class Interrupted(io.StringIO):
        def read(self, size: int | None = -1) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Interrupted())
    assert gemma_edge("run", folder) == (130, "", "interrupted\n")


def test_an_error_of_the_system_is_a_sentence(gemma_edge):
    refused(gemma_edge("verify", "x" * 5000), "File name too long")


def test_run_streams_text_and_says_why_it_ended_elsewhere(gemma_edge, folder):
    code, out, err = gemma_edge("run", folder, "hello", "--max-new-tokens", 4, "--temperature", 0, "--threads", 1)
    assert code == 0
    assert out.endswith("\n")
    assert "[ended" not in out
    assert "[ended: length]" in err


def test_run_json_has_the_promised_keys(answer, folder):
    printed = answer("hello", "--max-new-tokens", 6, "--temperature", 0)
    assert list(printed) == RUN_KEYS
    assert (len(printed["ids"]), printed["stop"]) == (6, "length")
    assert printed["text"] == Model.open(Path(folder)).session().tokenizer.decode(printed["ids"])
    assert min(printed["prefill_tok_s"], printed["decode_tok_s"], printed["ttft_s"]) > 0


def test_run_uses_the_chat_template_unless_raw(answer):
    chat, raw = (answer("hello", "--max-new-tokens", 1, *extra)["prompt_ids"] for extra in ([], ["--raw"]))
    hello = [107 + byte for byte in b"hello"]
    assert raw == [2, *hello]
    assert chat[:2] == [2, 105]
    assert chat.count(105) == 2, "a user's turn and the beginning of the model's"
    assert any(chat[at : at + 5] == hello for at in range(len(chat)))


def test_run_tells_the_system_prompt(answer):
    printed = answer("hello", "--system", "bye", "--max-new-tokens", 1)["prompt_ids"]
    assert printed.count(105) == 3, "system, user, and the beginning of the model's"


def test_run_reads_the_prompt_from_standard_input(answer, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello"))
    piped = answer("--max-new-tokens", 3, "--temperature", 0)
    given = answer("hello", "--max-new-tokens", 3, "--temperature", 0)
    assert piped["prompt_ids"] == given["prompt_ids"]
    assert piped["ids"] == given["ids"]


def test_same_seed_same_ids(answer):
    sampled = ["hello", "--max-new-tokens", 12, "--temperature", 1.5, "--top-k", 0, "--top-p", 1, "--seed"]
    once, again, other = (answer(*sampled, seed)["ids"] for seed in (7, 7, 8))
    assert once == again
    assert once != other


def test_run_stops_at_the_context_limit(answer):
    printed = answer("x" * (CONTEXT - 5), "--raw", "--temperature", 0)
    assert printed["stop"] in ("context", "stop")
    assert len(printed["prompt_ids"]) + len(printed["ids"]) <= CONTEXT + 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["x" * CONTEXT, "--raw"], [f"{CONTEXT + 1} tokens", f"context is {CONTEXT}"]),
        ([""], ["the prompt is empty"]),
        ([" \n"], ["the prompt is empty"]),
        (["\udcff"], ["not UTF-8"]),
        (["hi", "--max-new-tokens", "0"], ["max new tokens must be", "not 0"]),
        (["hi", "--max-new-tokens", "-3"], ["max new tokens must be", "not -3"]),
        (["hi", "--temperature", "-1"], ["temperature must be", "not -1"]),
        (["hi", "--temperature", "nan"], ["temperature must be", "not nan"]),
        (["hi", "--temperature", "inf"], ["temperature must be", "not inf"]),
        (["hi", "--top-k", "-1"], ["top-k must be", "not -1"]),
        (["hi", "--top-p", "0"], ["top-p must be", "not 0"]),
        (["hi", "--top-p", "1.5"], ["top-p must be", "not 1.5"]),
        (["hi", "--top-p", "nan"], ["top-p must be", "not nan"]),
        (["hi", "--threads", "-2"], ["threads must be", "not -2"]),
        (["hi", "--image", "a.png"], ["--image a.png", "only text"]),
        (["hi", "--audio", "a.wav"], ["--audio a.wav", "only text"]),
        (["hi", "--chat"], ["--chat cannot be combined"]),
        (["hi", "--raw", "--system", "x"], ["--raw cannot be combined with --system"]),
        (["hi", "--raw", "--json-schema", "x"], ["--raw cannot be combined with --json-schema"]),
    ],
)
@pytest.mark.parametrize("output", [[], ["--json"]])
def test_run_refuses(gemma_edge, folder, words, named, output):
    refused(gemma_edge("run", folder, *words, *output), "hint: ", *named)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["missing.json"], "missing.json: No such file"),
        ([__file__], "not JSON"),
        (
            [str(GOLDEN.parent / "sample" / "checkpoint" / "config.json"), "--json"],
            "--json cannot be combined with --json-schema",
        ),
    ],
)
def test_run_refuses_schemas(gemma_edge, folder, words, named):
    refused(gemma_edge("run", folder, "hi", "--json-schema", *words), named)


@pytest.mark.parametrize(("given", "named"), [("", "the prompt is empty"), ("\udcfe", "not UTF-8")])
def test_run_refuses_on_standard_input(gemma_edge, folder, monkeypatch, given, named):
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    refused(gemma_edge("run", folder), named)


def test_a_chat_remembers_its_turns(gemma_edge, folder, monkeypatch):
    lines, prompts = iter(["hello", "", "more"]), []

    def typed(mark: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    def remembering(tokenizer, messages, **options):
        prompts.append([(message["role"], message["content"]) for message in messages])
        return chat(tokenizer, messages, **options)

    chat = Tokenizer.chat
    monkeypatch.setattr(Tokenizer, "chat", remembering)
    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, out, _ = gemma_edge("run", folder, "--max-new-tokens", 4, "--temperature", 0, "--threads", 1)
    assert code == 0
    assert [[role for role, _ in turns] for turns in prompts] == [["user"], ["user", "assistant", "user"]]
    assert out.startswith(prompts[1][1][1] + "\n")


def test_run_never_loads_torch(folder, tmp_path):
    code = """
import sys
from runtime.cli.main import main
code = main(["run", sys.argv[1], "hello", "--max-new-tokens", "2", "--threads", "1", "--json"])
heavy = {"torch", "onnx", "safetensors", "transformers", "ml_dtypes", "export", "quantize"} & set(sys.modules)
sys.exit(f"loaded: {heavy}" if heavy else code)
"""
    done = subprocess.run([sys.executable, "-c", code, folder], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(json.loads(done.stdout)) == RUN_KEYS


def test_bench_ends_with_one_json_object(gemma_edge, folder):
    code, out, err = gemma_edge("bench", folder, *BENCH, "--context", 4)
    *table, last = out.splitlines()
    printed = json.loads(last)
    assert (code, err) == (0, "")
    assert printed.keys() >= BENCH_KEYS
    assert printed["settings"] == {"threads": 1, "prompt_tokens": 8, "new_tokens": 3, "context": 4, "repeat": 2}
    assert min(printed[key] for key in BENCH_KEYS - {"settings"}) > 0
    assert {line.split("  ")[0] for line in table} >= {"prefill", "decode", "time to first token", "load"}


def test_bench_json_is_one_line(gemma_edge, folder):
    code, out, err = gemma_edge("bench", folder, *BENCH, "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert json.loads(out).keys() >= BENCH_KEYS


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--prompt-tokens", "0"], "--prompt-tokens must be at least 1, not 0"),
        (["--new-tokens", "-1"], "--new-tokens must be at least 1, not -1"),
        (["--repeat", "0"], "--repeat must be at least 1, not 0"),
        (["--context", "-1"], "--context must be 0 or more, not -1"),
        (["--context", "0,few"], "--context must be numbers with commas between them, not 0,few"),
        (["--context", "0,250"], f"context is {CONTEXT}"),
        (["--html", "missing/x.html"], "error: missing/x.html: there is no folder"),
        (["--threads", "-1"], "--threads must be 0 or more, not -1"),
        (["--prompt-tokens", "250"], f"context is {CONTEXT}"),
    ],
)
def test_bench_refuses(gemma_edge, folder, words, named):
    refused(gemma_edge("bench", folder, *words), named)


def test_inspect_explains_a_bundle(gemma_edge, folder):
    code, out, err = gemma_edge("inspect", folder, "--json")
    printed = json.loads(out)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert printed["bytes"]["disk"] == sum(entry.size for entry in read_manifest(Path(folder)).files.values())
    assert (printed["kind"], printed["context"], printed["recipe"].split(":")[0]) == ("bundle", CONTEXT, "float")


def test_inspect_text_and_json_say_the_same(gemma_edge, folder, checkpoint):
    for path in (folder, checkpoint("e2b")):
        printed = json.loads(gemma_edge("inspect", path, "--json")[1])
        code, out, err = gemma_edge("inspect", path)
        assert (code, err) == (0, "")
        for name, value in printed.items():
            assert name in out
            if isinstance(value, (int, str)):
                assert (f"{value:,}" if isinstance(value, int) else value) in out


def test_verify_passes_a_sound_bundle(gemma_edge, folder):
    code, out, err = gemma_edge("verify", folder, "--threads", 1)
    assert (code, err, out.splitlines()[-1]) == (0, "", "passed")


def test_verify_json_is_one_line(gemma_edge, folder):
    code, out, err = gemma_edge("verify", folder, "--json", "--threads", 1)
    assert (code, err, out.count("\n")) == (0, "", 1)
    printed = json.loads(out)
    assert (printed["passed"], printed["wrong_tokens"]) == (True, 0)
    assert 0 <= printed["worst_logit_difference"] <= printed["tolerance"]


def test_verify_fails_where_golden_answers_differ(gemma_edge, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy.bundle")
    goldens = msgspec.json.decode((copy / "golden.json").read_bytes(), type=Goldens)
    goldens.prompts[0].top_logits[0][0] += 10 * goldens.tolerance
    (copy / "golden.json").write_bytes(msgspec.json.encode(goldens))
    manifest = read_manifest(copy)
    (copy / "bundle.json").unlink()
    (copy / "bundle.sha256").unlink()
    seal(copy, msgspec.structs.replace(manifest, files=describe(copy)))
    code, out, err = gemma_edge("verify", copy, "--json", "--threads", 1)
    assert (code, json.loads(out)["passed"]) == (1, False)
    assert err.startswith(f"error: {copy}: golden answers differ")


@pytest.mark.parametrize("recipe", ["float", "int4"])
def test_dry_run_shows_one_recipe_and_writes_nothing(gemma_edge, checkpoint, tmp_path, recipe):
    words = ["export", checkpoint("e2b"), "--to", "onnx", "--recipe", recipe, "-o", tmp_path / "x.bundle", "--dry-run"]
    code, out, err = gemma_edge(*words)
    assert code == 0
    assert [line.partition(" (")[0] for line in err.splitlines()] == ["note: answers end at <eos>"]
    assert "flash-mapped" in out
    assert recipe in out.split()
    assert not {"int8", "int4-mixed"} & set(out.split())
    assert list(tmp_path.iterdir()) == []


def test_dry_run_needs_no_destination(gemma_edge, checkpoint):
    assert gemma_edge("export", checkpoint("e2b"), "--dry-run")[0] == 0


def test_export_without_a_destination_is_refused(gemma_edge, checkpoint):
    refused(gemma_edge("export", checkpoint("e2b")), "-o BUNDLE")


@pytest.mark.parametrize("words", [["--temperature", "0", "BUNDLE", "TEXT"], ["BUNDLE", "--temperature", "0", "TEXT"]])
def test_flags_may_stand_between_bundle_and_prompt(words, bundle, gemma_edge):
    """argparse alone takes both positionals before the flag, and calls the prompt unrecognized."""
    places = {"BUNDLE": str(bundle("sample", "int4-datafree")), "TEXT": "What is the capital of Norway?"}
    code, out, _ = gemma_edge("run", *(places.get(word, word) for word in words))
    assert code == 0
    assert "Oslo" in out
