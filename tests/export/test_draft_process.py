"""An export in two processes: the same bundle, the same refusals, and nothing left of what went wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from export.calibrate.store import folder_of
from export.checkpoint.checkpoint import GENERATED
from export.draft_process import ended, export_apart, is_large, of_another_process
from export.request import Request
from runtime.bundle.bundle import Bundle, created
from runtime.cli.main import main
from runtime.errors import GemmaError


@pytest.mark.slow
def test_it_makes_the_bundle_that_one_process_makes(checkpoint, bundle, tmp_path):
    out = tmp_path / "x.bundle"
    export_apart(Request(str(checkpoint("e2b")), ("onnx",), "int4-datafree", None), out, replace=False)
    made, whole = Bundle.open(out).manifest, Bundle.open(bundle("e2b", "int4-datafree")).manifest
    differing = {name for name in whole.files if made.files[name].sha256 != whole.files[name].sha256}
    assert differing <= {"parity.json"}  # which has greedy tokens where the references are at hand
    parity = [json.loads((folder / "parity.json").read_text()) for folder in (out, bundle("e2b", "int4-datafree"))]
    assert [one["against"] for one in parity[0]["reports"]] == [one["against"] for one in parity[1]["reports"]]
    assert made.provenance.peak_rss_bytes > 100_000_000
    assert [path.name for path in tmp_path.iterdir()] == ["x.bundle"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("targets", "recipe", "sentence"),
    [
        (("onnx", "nowhere"), None, "unknown target: nowhere"),
        (("onnx",), "as-released", "needs a release of integers"),
    ],
)
def test_it_refuses_as_one_process_does(checkpoint, tmp_path, targets, recipe, sentence):
    with pytest.raises(GemmaError, match=sentence) as refused:
        export_apart(Request(str(checkpoint("e2b")), targets, recipe, None), tmp_path / "x.bundle", replace=False)
    assert refused.value.hint
    assert list(tmp_path.iterdir()) == []


def request(checkpoint) -> Request:
    return Request(str(checkpoint("e2b")), ("onnx",), "float", None)


def children() -> list[int]:
    """Processes that Python's multiprocessing has started for this one."""
    own = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(one) for one in own if "spawn_main" in Path(f"/proc/{one}/cmdline").read_text()]


def first_child() -> int:
    for _ in range(600):
        if found := children():
            return found[0]
        time.sleep(0.05)
    raise AssertionError("no process was started")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_that_the_system_ends_is_told(checkpoint, tmp_path):
    killer = threading.Thread(target=lambda: os.kill(first_child(), signal.SIGKILL))
    killer.start()
    with pytest.raises(GemmaError, match=r"the system ended the export \(signal 9\)"):
        export_apart(request(checkpoint), tmp_path / "x.bundle", replace=False)
    killer.join()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_ended_by_itself_is_a_bug():
    error = ended("here", 1)
    assert str(error) == "here: the export ended with exit code 1\nhint: report this as a bug, with the lines above"


@pytest.mark.slow
def test_a_calibration_is_kept_until_the_draft_is_proved(checkpoint, tmp_path):
    out, file = tmp_path / "x.bundle", tmp_path / "text.txt"
    file.write_text("one two three " * 200)
    calibrated = Request(str(checkpoint("e2b")), ("onnx",), "int4-quick", str(file))
    with suppress(KeyboardInterrupt), created(out, replace=False) as place:
        of_another_process(calibrated, place, out)
        raise KeyboardInterrupt
    assert (folder_of(out) / "state.json").is_file()
    assert not out.exists()
    export_apart(calibrated, out, replace=False)
    assert not folder_of(out).exists()


def test_a_calibration_is_kept_where_a_gate_was_missed(checkpoint, tmp_path):
    """The same export with --accept-loss goes on from there."""
    source, out, file = tmp_path / "trained", tmp_path / "x.bundle", tmp_path / "text.txt"
    file.write_text("one two three " * 200)
    shutil.copytree(checkpoint("e2b"), source)
    (source / GENERATED).unlink()
    words = ["export", str(source), "--recipe", "int4-quick", "--calibrate", str(file), "-o", str(out)]
    assert main(words) == 1
    state = folder_of(out) / "state.json"
    assert json.loads(state.read_text())["layers"] > 0
    written = state.stat().st_mtime_ns
    assert main(words) == 1
    assert state.stat().st_mtime_ns == written
    assert main([*words, "--accept-loss"]) == 0
    assert not folder_of(out).exists()


PARENT = """
import sys
from pathlib import Path
from export.draft_process import export_apart
from export.request import Request
if __name__ == "__main__":
    export_apart(Request(sys.argv[1], ("onnx",), "float", None), Path(sys.argv[2]), replace=False)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_other_process_does_not_outlive_the_first(checkpoint, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    words = [sys.executable, str(script), str(checkpoint("e2b")), str(tmp_path / "x.bundle")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen(words, env=environment)
    listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    while not (found := [one for one in listed.read_text().split() if spawned(one)]):
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    for _ in range(600):
        if not spawned(found[0]):
            return
        time.sleep(0.1)
    raise AssertionError("it goes on")


def spawned(process: str) -> bool:
    try:
        return "spawn_main" in Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return False


def test_what_is_large_is_told_by_its_weights(checkpoint):
    folder = str(checkpoint("e2b"))
    assert not is_large(folder)
    assert is_large("google/gemma-4-E2B-it")
    assert is_large(folder, limit=100_000)


def test_the_first_process_does_without_torch():
    code = "import sys, export.cmd_export, export.draft_process; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    assert done.returncode == 0
