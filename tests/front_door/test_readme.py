"""The examples of gemma_edge/README.md do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE = ROOT / "tests" / "sample" / "checkpoint"
ASK, CHAT, EXPORT = re.findall(r"```python\n(.*?)```", (ROOT / "gemma_edge" / "README.md").read_text(), re.S)


@pytest.fixture
def desk(bundle, tmp_path):
    """A folder with the bundle and the checkpoint that the examples name."""
    (tmp_path / "gemma-e2b.bundle").symlink_to(bundle("sample", "int4-datafree"))
    (tmp_path / "my-gemma").symlink_to(SAMPLE)
    return tmp_path


def printed(program: str, desk: Path) -> str:
    path = desk / "program.py"
    path.write_text(program)
    code = f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); runpy.run_path('program.py', run_name='__main__')"
    return subprocess.check_output([sys.executable, "-c", code], cwd=desk, text=True, stderr=subprocess.DEVNULL)


def test_a_question_is_answered(desk):
    assert printed(ASK, desk) == "The capital of Norway is Oslo.\n"


def test_a_function_is_called(desk):
    assert printed(CHAT, desk) == "lookup said Oslo\nThe capital of Norway is Oslo.\n"


@pytest.mark.slow
def test_a_bundle_is_made(desk):
    assert printed(EXPORT, desk) == "my-gemma.bundle\n"
    assert (desk / "my-gemma.bundle" / "bundle.json").is_file()
