"""No command asks the network for anything, or leaves a file in the home folder that nobody asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MAIN = "import sys; from runtime.cli import main; sys.exit(main(sys.argv[1:]))"
ROOT = Path(__file__).parents[1]
BENCH = ["--prompt-tokens", "4", "--new-tokens", "2", "--repeat", "1", "--json"]
COMMANDS = {
    "run": ["run", "BUNDLE", "hello", "--max-new-tokens", "1"],
    "verify": ["verify", "BUNDLE"],
    "inspect": ["inspect", "BUNDLE"],
    "bench": ["bench", "BUNDLE", *BENCH],
    "export": ["export", "CHECKPOINT", "--to", "onnx,executorch,coreml", "--recipe", "float", "-o", "OUTPUT"],
}
REACHES_OUT = re.compile(r"(?:connect|sendto|sendmsg)\(.*AF_INET6?\b.*")


def traced(words: list[str], home: Path, **variables: str) -> str:
    """Run a command with an empty home folder; the system calls of it and its children that reach a network."""
    log = home.with_suffix(".trace")
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "HF_", "ORT_"))}
    strace = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o", str(log)]
    command = [sys.executable, "-c", MAIN, *words]
    subprocess.run(
        [*(strace if shutil.which("strace") else []), *command],
        env=kept | {"HOME": str(home), "PYTHONPATH": str(ROOT)} | variables,
        cwd=home.parent, check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    return log.read_text() if log.exists() else ""


@pytest.fixture
def words(bundle, checkpoint, tmp_path):
    names = {"BUNDLE": str(bundle("e2b")), "CHECKPOINT": str(checkpoint("e2b")), "OUTPUT": str(tmp_path / "x.bundle")}
    return lambda command: [names.get(word, word) for word in COMMANDS[command]]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_asks_nobody_and_leaves_the_home_folder_empty(command, words, tmp_path):
    calls = traced(words(command), tmp_path / "home")
    assert not REACHES_OUT.findall(calls)
    assert [path.name for path in (tmp_path / "home").rglob("*")] == []


@pytest.mark.slow
def test_who_wants_telemetry_of_onnxruntime_keeps_it(words, tmp_path):
    """What this shows is that the test above sees it."""
    traced(words("run"), tmp_path / "home", ORT_DISABLE_TELEMETRY="0")
    assert list((tmp_path / "home").rglob("*"))
