"""The names that programs may rely on, and what importing them costs."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import gemma_edge

ROOT = Path(__file__).resolve().parent.parent.parent
HEAVY = ["torch", "onnxruntime", "tokenizers", "numpy", "executorch", "jinja2", "starlette"]


def test_every_public_name_is_exported():
    public = [
        name
        for name, value in vars(gemma_edge).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name not in ("annotations", "version")
    ]
    assert sorted([*public, "__version__"]) == gemma_edge.__all__


def test_what_is_exported_is_there():
    assert [name for name in gemma_edge.__all__ if getattr(gemma_edge, name, None) is None] == []


def test_the_version_is_the_distributions():
    assert gemma_edge.__version__ == version("gemma-edge")


def test_importing_loads_no_engine():
    code = f"import json, sys, gemma_edge; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    assert json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)) == []


def test_every_room_is_typed_for_others():
    assert [
        room for room in ("export", "gemma_edge", "quantize", "runtime") if not (ROOT / room / "py.typed").exists()
    ] == []
