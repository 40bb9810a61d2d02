"""No command asks the network for anything, or leaves a file in the home folder that nobody asked for."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

MAIN = "import sys; from runtime.cli.main import main; sys.exit(main(sys.argv[1:]))"
ROOT = Path(__file__).parents[1]
BENCH = ["--prompt-tokens", "4", "--new-tokens", "2", "--repeat", "1", "--json"]
EVAL = ["--text", "TEXT", "--against", "CHECKPOINT", "--windows", "1", "--window-tokens", "32"]
COMMANDS = {
    "run": ["run", "BUNDLE", "hello", "--max-new-tokens", "1"],
    "serve": ["serve", "BUNDLE", "--port", "0"],
    "verify": ["verify", "BUNDLE"],
    "inspect": ["inspect", "BUNDLE"],
    "bench": ["bench", "BUNDLE", *BENCH],
    "eval": ["eval", "BUNDLE", *EVAL],
    "export": ["export", "CHECKPOINT", "--to", "onnx,executorch,coreml", "--recipe", "float", "-o", "OUTPUT"],
}
KEPT = ("PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH")  # onnxruntime is silent where a variable says that this is CI
REACHES_OUT = re.compile(r"(?:connect|sendto|sendmsg)\(.*AF_INET6?\b.*")


def traced(words: list[str], home: Path, **variables: str) -> str:
    """Run a command with an empty home folder; the system calls of it and its children that reach a network."""
    log = home.with_suffix(".trace")
    home.mkdir()
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    strace = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o", str(log)]
    command = [*(strace if shutil.which("strace") else []), sys.executable, "-c", MAIN, *words]
    environment = kept | {"HOME": str(home), "PYTHONPATH": str(ROOT)} | variables
    with subprocess.Popen(
        command, env=environment, cwd=home.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            if words[0] == "serve":
                converse(process)
            _, said = process.communicate(timeout=600)
        finally:
            if process.poll() is None:
                for pid in (*children(process.pid), process.pid):
                    os.kill(pid, signal.SIGKILL)
    assert process.returncode == 0, said
    return log.read_text() if log.exists() else ""


def converse(process: subprocess.Popen[str]) -> None:
    """Ask a server for its page, its models and an answer, then close it as control-C does."""
    assert process.stdout
    url = process.stdout.readline().split()[-1]
    body = json.dumps(
        {"model": "e2b-float", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
    ).encode()
    for path, sent in (("/", None), ("/v1/models", None), ("/v1/chat/completions", body)):
        request = urllib.request.Request(url + path, sent, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.read()
    for child in children(process.pid) or [process.pid]:  # strace keeps the signal to itself
        os.kill(child, signal.SIGINT)


def children(pid: int) -> list[int]:
    """Of a process under strace: the command itself."""
    traced_by = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in traced_by.read_text().split()] if shutil.which("strace") else []


@pytest.fixture
def words(bundle, checkpoint, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The capital of Norway is Oslo, and that of Sweden is Stockholm. " * 8, encoding="utf-8")
    paths = {"BUNDLE": bundle("e2b"), "CHECKPOINT": checkpoint("e2b"), "OUTPUT": tmp_path / "x.bundle", "TEXT": text}
    return lambda command: [str(paths.get(word, word)) for word in COMMANDS[command]]


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
