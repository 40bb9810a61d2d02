"""What works without the packages of the extras, and what says which extra it needs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from runtime.cli.main import COMMANDS
from runtime.errors import NotInstalled
from runtime.needs import needs
from tests.rewrite_golden import GOLDEN

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# Packages that an extra brings, as they are imported.
PACKAGES = {
    "export": ["torch", "safetensors", "onnx", "ml_dtypes"],
    "executorch": ["executorch", "torchao"],
    "coreml": ["coremltools", "google.protobuf"],
    "structured": ["llguidance", "jsonschema", "jsonschema_specifications"],
    "serve": ["starlette", "uvicorn"],
    "hub": ["huggingface_hub"],
    "test": ["transformers"],
}


def without(extras: list[str], code: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter for which the packages of some extras are not there."""
    hidden = [package for extra in extras for package in PACKAGES[extra]]
    hide = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules |= dict.fromkeys({hidden!r})\n"
    return subprocess.run([sys.executable, "-c", hide + code], cwd=cwd, capture_output=True, text=True, check=False)


def command(extras: list[str], *words: object, cwd: Path = ROOT) -> tuple[int, str, str]:
    code = f"from runtime.cli.main import main\nsys.exit(main({[str(word) for word in words]!r}))"
    ended = without(extras, code, cwd)
    return ended.returncode, ended.stdout, ended.stderr


def test_the_extras_are_those_of_the_project():
    assert sorted(PACKAGES) == sorted(EXTRAS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_without_its_extra(name):
    """--help is what one reads before installing."""
    assert command(list(PACKAGES), name, "--help") == (0, (GOLDEN / "help" / f"{name}.txt").read_text(), "")


@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        (["export", "x", "-o", "y"], "export needs the package torch", "export"),
        (["serve", "x"], "serve needs the package starlette", "serve"),
        (["inspect", "x"], "x is not a bundle, and reading a checkpoint needs the package torch", "export"),
        (["synth", "e2b-tiny", "x"], "synth needs the package torch", "export"),
    ],
)
def test_a_command_names_its_extra(words, package, extra, tmp_path):
    code, out, err = command(list(PACKAGES), *words, cwd=tmp_path)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {package}")
    assert err.endswith("\n")
    assert f", which is not installed\nhint: pip install 'gemma-edge[{extra}]'" in err
    assert list(tmp_path.iterdir()) == []


def test_eval_names_its_extra(bundle, tmp_path):
    (tmp_path / "text").write_text("a b c d e f g h " * 40)
    words = [
        "eval",
        bundle("e2b"),
        "--text",
        tmp_path / "text",
        "--window-tokens",
        16,
        "--threads",
        1,
        "--against",
        "x",
    ]
    code, _, err = command(["export"], *words)
    assert code == 1
    assert err == (
        "error: --against x: reading a checkpoint needs the package torch, which is not installed\n"
        "hint: pip install 'gemma-edge[export]', or leave --against out\n"
    )


@pytest.mark.parametrize(("target", "package"), [("coreml", "coremltools"), ("executorch", "executorch")])
def test_a_target_names_its_extra(target, package):
    pytest.importorskip(package, reason=f"the extra {target} is not installed")
    code = f"from export.targets import load_targets\nload_targets([{target!r}])"
    said = f"NotInstalled: target {target} needs the package {package}, which is not installed\n"
    assert f"{said}hint: pip install 'gemma-edge[{target}]'" in without([target], code).stderr


@pytest.mark.parametrize(
    ("extra", "code", "said"),
    [
        ("structured", "from runtime.schema.check import metaschema\nmetaschema()", "the check of a JSON schema needs"),
        ("structured", "from runtime.schema.guidance import load_llguidance\nload_llguidance()", "a structured answer"),
        (
            "export",
            "from runtime.cli.cmd_bench import synth_bundle\nsynth_bundle('e2b-tiny', None)",
            "--shape e2b-tiny: making a bundle needs the package torch",
        ),
        (
            "hub",
            "from export.checkpoint.download import download\ndownload('a/b')",
            "there is no folder a/b, and downloading it",
        ),
    ],
)
def test_a_part_of_the_library_names_its_extra(extra, code, said):
    err = without([extra], code).stderr
    assert f"runtime.errors.NotInstalled: {said}" in err
    assert f"hint: pip install 'gemma-edge[{extra}]'" in err


def test_a_module_that_is_there_is_imported():
    assert needs("json", "export", "this test").dumps([1]) == "[1]"


def test_a_package_of_a_module_is_what_is_missing(tmp_path, monkeypatch):
    (tmp_path / "wants_more.py").write_text("import no_such_package.inner\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        NotInstalled, match=r"^a test needs the package no_such_package, which is not installed"
    ) as info:
        needs("wants_more", "export", "a test", ", or do without")
    assert info.value.hint == "pip install 'gemma-edge[export]', or do without"
