"""Errors: of which kind they are, whatever their words; and no word of them is a flag of a command."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.bundle.bundle import Bundle
from runtime.cli.flags import FLAGS, explained
from runtime.errors import BundleError, ContextFull, GateMissed, GemmaError, NotInstalled, RequestError
from runtime.schema.guidance import load_llguidance
from runtime.session.model import Model
from runtime.session.options import Options

ROOT = Path(__file__).resolve().parent.parent
HI = [{"role": "user", "content": "hi"}]
KINDS = {"GemmaError", "GateMissed", "BundleError", "ContextFull", "NotInstalled", "RequestError", "Refusal"}
FLAG = re.compile(r"(?<![\w-])(?:--[a-z][\w-]*|-o)(?![\w-])")
OTHERS = {"--safe_serialization"}  # flags of programs that are not ours


@pytest.fixture(scope="module")
def model(bundle):
    with Model.open(bundle("e2b"), threads=1, context=64) as opened:
        yield opened


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle("e2b"), tmp_path / "copy.bundle")


# ---- one of each, from real causes ----


def test_no_bundle_is_a_bundle_error(tmp_path):
    with pytest.raises(BundleError, match="not a bundle"):
        Model.open(tmp_path)


def test_a_damaged_bundle_is_a_bundle_error(copy):
    with (copy / "tokenizer.json").open("r+b") as file:
        file.write(b"?")
    with pytest.raises(BundleError, match="SHA-256"):
        Bundle.open(copy)


def test_a_bundle_of_a_later_format_is_a_bundle_error(copy):
    manifest = copy / "bundle.json"
    text, count = re.subn(r'"version": \[\s*1,', '"version": [2,', manifest.read_text())
    assert count == 1
    manifest.write_text(text)
    with pytest.raises(BundleError, match=r"format 2\.\d, but this gemma-edge reads 1"):
        Bundle.open(copy)


def test_an_artifact_that_is_not_there_is_a_bundle_error(bundle):
    pytest.importorskip("executorch", reason="the extra executorch is not installed")
    with pytest.raises(BundleError, match="has no ExecuTorch artifact; it has onnx"):
        Model.open(bundle("e2b"), engine="executorch")


def test_a_prompt_over_the_context_is_context_full(model):
    with pytest.raises(ContextFull, match="the prompt has 65 tokens, but the context is 64"):
        model.session().generate([2] * 65)


def test_a_package_that_is_missing_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(NotInstalled, match="llguidance"):
        load_llguidance()


@pytest.mark.parametrize(
    ("messages", "options"),
    [
        ([], {}),
        ([{"role": "wizard", "content": "hi"}], {}),
        (HI, {"tools": [{"name": "not a name"}]}),
        (HI, {"tools": [{"name": "f", "parameters": {"type": "thing"}}]}),
        (HI, {"tool_choice": "fly"}),
        (HI, {"thinking_budget": -1}),
        (HI, {"max_new_tokens": 0}),
    ],
)
def test_what_can_not_be_asked_is_a_request_error(model, messages, options):
    with pytest.raises(RequestError):
        model.session().chat(messages, Options(**options))


@pytest.mark.parametrize("options", [{"threads": -1}, {"engine": "steam"}, {"context": -5}, {"context": 10**9}])
def test_a_model_that_can_not_be_opened_so_is_a_request_error(bundle, options):
    with pytest.raises(RequestError):
        Model.open(bundle("e2b"), **options)


def test_all_are_one_that_a_program_can_catch():
    assert all(
        issubclass(kind, GemmaError) for kind in (BundleError, ContextFull, NotInstalled, RequestError, GateMissed)
    )


# ---- words ----


def told(path: Path) -> Iterator[str]:
    """Every string that an error of a file may say: arguments of our errors, and constants of the module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS
    ]
    constants = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    for node in [*calls, *constants]:
        yield from (
            inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
        )


def library() -> list[Path]:
    """Files that a program may call without a command line."""
    paths = [path for room in ("runtime", "quantize", "export") for path in (ROOT / room).rglob("*.py")]
    return [path for path in paths if not path.name.startswith("cmd_") and path.parent != ROOT / "runtime" / "cli"]


def test_no_error_of_the_library_names_a_flag():
    named = {
        (path.relative_to(ROOT).as_posix(), flag)
        for path in library()
        for text in told(path)
        for flag in FLAG.findall(text)
        if flag not in OTHERS
    }
    assert len(library()) > 100
    assert named == set()


@pytest.mark.parametrize("text", ["choose another -o", "leave --engine out", "--context {x}", "(`--to onnx`)"])
def test_flags_are_seen(text, tmp_path):
    path = tmp_path / "a.py"
    path.write_text(f"HINT = {text!r}\ndef f():\n    raise RequestError('no', {text!r})\n")
    assert [bool(FLAG.search(said)) for said in told(path)] == [False, True, True]


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        ("choose another destination, or pass replace=True", "choose another -o, or pass --force"),
        ("export it again with targets=['executorch']", "export it again with --to executorch"),
        ("open the model with engine='onnx'", "open the model with --engine onnx"),
        ("export it with recipe='int4'", "export it with --recipe int4"),
        ("0 keeps every token", "0 keeps every token"),
    ],
)
def test_a_command_says_the_flag(hint, shown):
    assert explained(RequestError("it can not be", hint)) == f"it can not be\nhint: {shown}"


def test_every_flag_is_for_a_hint_there_is():
    """A row of the table that no hint needs any more would hide that a hint was reworded."""
    said = [text for path in library() for text in told(path)] + [
        node.value
        for path in library()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.JoinedStr)
        for node in node.values
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert [words for words, _ in FLAGS if not any(re.search(words, text) for text in said)] == []
