"""The rooms, their wings and their doors: who may import whom, how thin the runtime is, whose packages these are."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {"export": {"quantize", "runtime"}, "gemma_edge": {"runtime"}, "quantize": set(), "runtime": set()}
ROOMS = list(MAY_IMPORT)
HEAVY = {"torch", "onnx", "safetensors", "transformers", "executorch", "coremltools", "ml_dtypes"}
# Where a room is named by a string, so that it is imported only when asked for.
DOORS = {
    "runtime/cli/main.py": {"export.cmd_export", "export.cmd_synth"},
    "runtime/cli/cmd_bench.py": {"export.synth_bundle"},
    "runtime/cli/cmd_eval.py": {"export.prove.divergence", "export.prove.call_fidelity"},
    "runtime/cli/cmd_inspect.py": {"export.inspect_checkpoint"},
    "gemma_edge/new_bundle.py": {"export.pipeline", "export.request"},
}
# Wings and single files of a room, the ground floor first: each imports from floors below its own, and no other.
FLOORS = {
    "export": [
        ["model", "read_json", "targets"],
        ["checkpoint"],
        ["choose_recipe", "language", "parts", "synth", "weights"],
        ["cmd_synth", "inspect_checkpoint", "reference", "to_coreml", "to_executorch", "to_onnx"],
        ["calibrate"],
        ["prove"],
        ["request"],
        ["pipeline"],
        ["draft_process", "synth_bundle"],
        ["cmd_export"],
    ],
    "runtime": [
        ["arrays", "atomically", "errors", "machine", "progress"],
        ["bundle", "needs"],
        ["engine", "language", "schema"],
        ["calls", "measure", "parts"],
        ["session"],
        ["serve"],
        ["cli"],
    ],
}
MOST_FLOORS = {"export": 10, "runtime": 7}
MOST_FILES = 12  # of a wing, besides its README and its empty __init__.py


def sources(room: str) -> list[Path]:
    paths = sorted((ROOT / room).glob("**/*.py"))
    assert paths, f"{room} is empty"
    return paths


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(dots, module) of every import in a file, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


def absolute(room: str) -> set[tuple[str, str]]:
    """(file, top-level package) of every absolute import of a room."""
    return {
        (path.relative_to(ROOT).as_posix(), module.split(".")[0])
        for path in sources(room)
        for dots, module in imports(path)
        if dots == 0
    }


def neighbours(path: Path) -> Iterator[Path]:
    """The files of its own room that a file imports when it is loaded or run, not for its types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level and id(node) not in for_types:
            folder = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            module = folder.with_suffix(".py")
            yield from [module] if module.is_file() else (folder / f"{alias.name}.py" for alias in node.names)


def wing(path: Path) -> str:
    """A folder of a room, or a file beside the folders."""
    return Path(path.relative_to(ROOT).parts[1]).stem


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
    assert {(path.name, module) for path in sources(room) for dots, module in imports(path) if dots > 2} == set()


# ---- wings ----


@pytest.mark.parametrize("room", FLOORS)
def test_every_wing_has_a_floor(room):
    wings = {wing(path) for path in sources(room)} - {"__init__"}
    named = [name for floor in FLOORS[room] for name in floor]
    assert sorted(named) == sorted(wings)
    assert len(FLOORS[room]) <= MOST_FLOORS[room]


@pytest.mark.parametrize("room", FLOORS)
def test_every_import_leads_down(room):
    floor = {name: number for number, names in enumerate(FLOORS[room]) for name in names}
    arrows = {(wing(path), wing(other)) for path in sources(room) for other in neighbours(path)}
    assert len(arrows) > 20
    assert {(name, below) for name, below in arrows if name != below and floor[name] <= floor[below]} == set()


@pytest.mark.parametrize("room", ROOMS)
def test_no_file_needs_itself(room):
    graph = {path: set(neighbours(path)) for path in sources(room)}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)


@pytest.mark.parametrize("room", ROOMS)
def test_a_wing_fits_a_glance(room):
    folders = {path.parent for path in sources(room)}
    counts = {folder.name: len(set(folder.glob("*.py")) - {folder / "__init__.py"}) for folder in folders}
    assert {name: count for name, count in counts.items() if count > MOST_FILES} == {}


@pytest.mark.parametrize("room", FLOORS)
def test_a_command_imports_no_command(room):
    commands = [path for path in sources(room) if path.stem.startswith("cmd_")]
    assert commands
    assert {(path.stem, module) for path in commands for _, module in imports(path) if ".cmd_" in f".{module}"} == set()


# ---- what a room needs ----


def test_the_runtime_is_thin():
    assert {(file, package) for file, package in absolute("runtime") if package in HEAVY} == set()


@pytest.mark.parametrize(
    ("engine", "other"), [("executorch", "onnxruntime"), ("contract", "onnxruntime"), ("onnx", "executorch")]
)
def test_an_engine_is_imported_without_the_other(engine, other):
    """An application that runs one need not have the other."""
    code = f"import sys, runtime.engine.{engine}; print({other!r} in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout == "False\n"


def test_quantize_needs_numpy_and_torch_only():
    packages = {package for _, package in absolute("quantize")}
    assert packages - sys.stdlib_module_names == {"numpy", "torch"}


def test_rooms_named_by_strings_are_at_the_doors_only():
    named: dict[str, set[str]] = {}
    for room in ("gemma_edge", "runtime", "quantize"):
        others = tuple(f"{other}." for other in ROOMS if other != room)
        for path in sources(room):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(others):
                    named.setdefault(path.relative_to(ROOT).as_posix(), set()).add(node.value)
    assert named == DOORS


@pytest.mark.parametrize("room", ROOMS)
def test_package_names_are_this_checkouts(room):
    spec = importlib.util.find_spec(room)
    assert spec is not None
    assert spec.origin == str(ROOT / room / "__init__.py")


def test_package_names_are_this_checkouts_from_anywhere(tmp_path):
    code = f"import importlib.util as u; print(*(u.find_spec(room).origin for room in {ROOMS}), sep='\\n')"
    printed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert printed.stdout.split("\n")[:-1] == [str(ROOT / room / "__init__.py") for room in ROOMS]
