"""A stranger's program, with the wheel that was built and its base dependencies, and nothing else of ours."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "gemma_edge" / "README.md").read_text(), re.S)
PARTS = ["export", "gemma_edge", "quantize", "runtime", "pyproject.toml", "README.md", "LICENSE"]

pytestmark = pytest.mark.slow


def needed(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """A distribution and all that it requires without an extra of ours."""
    names = {name}
    for text in distribution(name).requires or []:
        requirement = Requirement(text)
        wanted = [{"extra": extra} for extra in extras or {""}]
        if requirement.marker is None or any(requirement.marker.evaluate(values) for values in wanted):
            names |= needed(requirement.name, frozenset(requirement.extras))
    return names


def link(name: str, place: Path) -> None:
    """Put the files of an installed distribution into another environment."""
    files = distribution(name).files or []
    for top in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
        source = Path(str(distribution(name).locate_file(top)))
        if source.exists() and not (place / top).exists():
            (place / top).symlink_to(source)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    for part in PARTS:
        source = ROOT / part
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / part)
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The interpreter of an environment with the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("stranger")
    venv.create(folder, with_pip=False)
    (place,) = folder.glob("lib/python*/site-packages")
    words = ["install", "--quiet", "--no-deps", "--target", place, wheel]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    for name in needed("gemma-edge") - {"gemma-edge"}:
        link(name, place)
    return folder / "bin" / "python"


@pytest.fixture
def desk(bundle, tmp_path):
    (tmp_path / "gemma-e2b.bundle").symlink_to(bundle("sample", "int4-datafree"))
    return tmp_path


def run(python: Path, program: str, desk: Path) -> subprocess.CompletedProcess[str]:
    (desk / "program.py").write_text(program)
    return subprocess.run([python, "program.py"], cwd=desk, capture_output=True, text=True, check=False)


def test_it_has_the_base_dependencies_only(python, desk):
    code = "import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    names = ["torch", "safetensors", "onnx", "llguidance", "jsonschema", "starlette", "executorch", "pytest"]
    assert run(python, code.format(names=names), desk).stdout == "[]\n"
    where = run(python, "import gemma_edge, runtime; print(gemma_edge.__file__, runtime.__file__)", desk).stdout
    assert where.count("site-packages") == 2


def test_a_question_is_answered(python, desk):
    assert run(python, PROGRAMS[0], desk).stdout == "The capital of Norway is Oslo.\n"


def test_a_function_is_called(python, desk):
    assert run(python, PROGRAMS[1], desk).stdout == "lookup said Oslo\nThe capital of Norway is Oslo.\n"


def test_an_export_says_what_it_needs(python, desk):
    ended = run(python, PROGRAMS[2], desk)
    assert ended.returncode == 1
    assert "NotInstalled: export_bundle needs the package " in ended.stderr
    assert "pip install 'gemma-edge[export]'" in ended.stderr


def strict(python: Path, program: str, desk: Path) -> str:
    (desk / "program.py").write_text(program)
    words: list[str | Path] = ["--strict", "--python-executable", python, "--cache-dir", desk / "cache", "program.py"]
    return subprocess.run([sys.executable, "-m", "mypy", *words], cwd=desk, capture_output=True, text=True).stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_passes_mypy_strict(python, desk, program):
    assert strict(python, program, desk) == "Success: no issues found in 1 source file\n"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("model.ask(7)", "incompatible type"),
        ("model.ask('x', temprature=0)", "Unexpected keyword argument"),
        ("model.ask('x').text", "has no attribute"),
        ("model.session().say('x').end.stopped", "has no attribute"),
        ("[event.text for event in model.session().say('x')]", "has no attribute"),
    ],
)
def test_mypy_sees_what_is_wrong(python, desk, wrong, said):
    """Types that a checker does not read would pass anything."""
    program = f"from gemma_edge import Model\n\nmodel = Model.open('x')\nprint({wrong})\n"
    assert said in strict(python, program, desk)
