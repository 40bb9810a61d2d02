"""A process that is somebody else's stays as it is; the command line's is tuned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runtime.engine.onnx import TILES, plain_attention
from runtime.machine.load_beside import load_beside

ROOT = Path(__file__).resolve().parent.parent.parent
WATCHED = """
import json, os, sys
called = []
def hook(event, values):
    if event == "ctypes.dlsym":
        called.append(str(values[1]))
before = dict(os.environ), sys.getswitchinterval()
from runtime.session.model import Model
from runtime.session.options import Options
from runtime.machine.tune import tune
sys.addaudithook(hook)
if TUNED: tune()
with Model.open(FOLDER, threads=1, context=64) as model:
    list(model.session().chat([{"role": "user", "content": "hi"}], Options(max_new_tokens=2)))
after = dict(os.environ), sys.getswitchinterval()
before[0]["ORT_DISABLE_TELEMETRY"] = after[0]["ORT_DISABLE_TELEMETRY"]
print(json.dumps({"called": called, "same": before == after}))
"""


def watched(folder: Path, *, tuned: bool) -> dict[str, Any]:
    code = WATCHED.replace("FOLDER", repr(str(folder))).replace("TUNED", str(tuned))
    values: dict[str, Any] = json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True))
    return values


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's functions")
def test_only_a_process_that_is_tuned_is_trimmed(bundle):
    folder = bundle("sample", "int8")
    alone, tuned = watched(folder, tuned=False), watched(folder, tuned=True)
    assert "malloc_trim" not in alone["called"]
    assert "malloc_trim" in tuned["called"]
    assert "mallopt" not in alone["called"] + tuned["called"]
    assert alone["same"]
    assert tuned["same"]


def test_sessions_are_opened_one_after_the_other():
    """One with a variable in the environment, and one without: neither may see what the other wants."""
    seen: list[str | None] = []
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with plain_attention(whole=True):
            inside.set()
            assert leave.wait(10)
            seen.append(os.environ.get(TILES))

    def second() -> None:
        with plain_attention(whole=False):
            seen.append(os.environ.get(TILES))

    with ThreadPoolExecutor(2) as pool:
        earlier = pool.submit(first)
        assert inside.wait(10)
        other = pool.submit(second)
        leave.set()
        earlier.result()
        other.result()
    assert seen == ["1", None]
    assert TILES not in os.environ


def test_a_variable_that_somebody_set_stays(monkeypatch):
    monkeypatch.setenv(TILES, "0")
    with plain_attention(whole=True):
        assert os.environ[TILES] == "0"
    assert os.environ[TILES] == "0"


def test_many_that_load_at_once_leave_the_switch_interval():
    before = sys.getswitchinterval()
    with ThreadPoolExecutor(8) as pool:
        for loaded in [pool.submit(load_beside, lambda: 1, lambda: 2) for _ in range(64)]:
            assert loaded.result() == (1, 2)
    assert sys.getswitchinterval() == before
