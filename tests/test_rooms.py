"""The rooms and their doors: who may import whom, how thin the runtime is, whose packages these are."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {"export": {"quantize", "runtime"}, "quantize": set(), "runtime": set()}
ROOMS = list(MAY_IMPORT)
HEAVY = {"torch", "onnx", "safetensors", "transformers", "executorch", "coremltools", "ml_dtypes"}
# Where a room is named by a string, so that it is imported only when asked for.
DOORS = {
    "runtime/cli.py": {"export.cmd_export", "export.cmd_synth"},
    "runtime/cmd_bench.py": {"export.synth_bundle"},
    "runtime/cmd_eval.py": {"export.divergence", "export.call_fidelity"},
    "runtime/cmd_inspect.py": {"export.inspect_checkpoint"},
}


def sources(room: str) -> list[Path]:
    found = sorted((ROOT / room).glob("**/*.py"))
    assert found, f"{room} is empty"
    return found


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(dots, module) of every import in a file, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


def absolute(room: str) -> set[tuple[str, str]]:
    """(file, top-level package) of every absolute import of a room."""
    return {(path.name, module.split(".")[0]) for path in sources(room) for dots, module in imports(path) if dots == 0}


def test_all_forms_of_import_are_seen(tmp_path):
    path = tmp_path / "sample.py"
    path.write_text("import a.b, c\nfrom d import e\nfrom . import f\ndef g():\n    from ..h import i\n")
    assert sorted(imports(path)) == [(0, "a.b"), (0, "c"), (0, "d"), (1, ""), (2, "h")]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_it_may(room):
    others = set(ROOMS) - MAY_IMPORT[room] - {room}
    assert {(file, package) for file, package in absolute(room) if package in others} == set()


@pytest.mark.parametrize("room", ROOMS)
def test_imports_are_relative_inside_a_room_and_absolute_across_rooms(room):
    assert {(file, package) for file, package in absolute(room) if package == room} == set()
    assert {(path.name, module) for path in sources(room) for dots, module in imports(path) if dots > 1} == set()


def test_the_runtime_is_thin():
    assert {(file, package) for file, package in absolute("runtime") if package in HEAVY} == set()


def test_quantize_needs_numpy_and_torch_only():
    packages = {package for _, package in absolute("quantize")}
    assert packages - sys.stdlib_module_names == {"numpy", "torch"}


def test_rooms_named_by_strings_are_at_the_doors_only():
    found: dict[str, set[str]] = {}
    for room in ("runtime", "quantize"):
        others = tuple(f"{other}." for other in ROOMS if other != room)
        for path in sources(room):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(others):
                    found.setdefault(path.relative_to(ROOT).as_posix(), set()).add(node.value)
    assert found == DOORS


@pytest.mark.parametrize("room", ROOMS)
def test_package_names_are_this_checkouts(room):
    spec = importlib.util.find_spec(room)
    assert spec is not None
    assert spec.origin == str(ROOT / room / "__init__.py")


def test_package_names_are_this_checkouts_from_anywhere(tmp_path):
    code = f"import importlib.util as u; print(*(u.find_spec(room).origin for room in {ROOMS}), sep='\\n')"
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.split("\n")[:-1] == [str(ROOT / room / "__init__.py") for room in ROOMS]
