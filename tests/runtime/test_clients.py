"""Clients of OpenAI's interface, each at a pinned version in an environment of its own, ask a server that runs.

The environments are kept in build/clients.  Where the package index does not answer, a client is skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MAIN = "import sys; from runtime.cli.main import main; sys.exit(main(sys.argv[1:]))"
REQUIREMENTS = {
    "openai": "openai==3.57.0",
    "langchain": "langchain-openai==1.7.4",
    "litellm": "litellm==1.110.2",
    "instructor": "instructor==1.17.0",
    "pydantic_ai": "pydantic-ai-slim[openai]==2.68.0",
    "llm": "llm==0.36",
    "aider": "aider-chat==0.86.2",
}
SILENT = {  # nobody is told, and nothing is looked up
    "AIDER_ANALYTICS": "false",
    "AIDER_CHECK_UPDATE": "false",
    "DO_NOT_TRACK": "1",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "LOGFIRE_SEND_TO_LOGFIRE": "false",
    "NO_PROXY": "127.0.0.1",
}
NO_ANSWER = re.compile(r"connection broken by|Max retries exceeded|Read timed out")
OTHER_PYTHON = re.compile(r"require a different python version")
ANSWER = "The capital of Norway is Oslo."
CONTEXT = 4096  # of the sample
SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "string", "maxLength": 20} for name in ("country", "capital")},
    "required": ["country", "capital"],
    "additionalProperties": False,
}


def conversation(question: str) -> dict[str, Any]:
    """Of tests/sample/calls.jsonl, with a call, what it came to, and the answer that repeats it."""
    lines = (ROOT / "tests" / "sample" / "calls.jsonl").read_text(encoding="utf-8").splitlines()
    recorded = [json.loads(line) for line in lines]
    return next(one for one in recorded if one["messages"][0]["content"] == question and len(one["messages"]) > 3)


RECORDED = conversation("Which crops does Serbia have?")
TURNS = RECORDED["messages"]


@pytest.fixture(scope="module")
def url(bundle) -> Iterator[str]:
    """Of a server in a process of its own."""
    command = [sys.executable, "-c", MAIN, "serve", str(bundle("sample", "int8")), "--port", "0", "--max-tokens", "256"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            yield server.stdout.readline().split()[-1] + "/v1"
        finally:
            server.terminate()


def python_of(client: str) -> Path:
    """The interpreter of a client's environment, which is made anew for another requirement or Python."""
    folder = ROOT / "build" / "clients" / client
    made_for, wanted = folder / "made_for.txt", f"{REQUIREMENTS[client]} {sys.version}"
    python = folder / "bin" / "python"
    if not (made_for.exists() and made_for.read_text() == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        install(python, client)
        made_for.write_text(wanted)
    return python


def install(python: Path, client: str) -> None:
    """With the wheels of pip's cache, or of the index."""
    quiet = ["--quiet", "--disable-pip-version-check", "--no-compile", "--only-binary", ":all:"]
    patient = ["--retries", "1", "--timeout", "20"]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", *quiet, *patient, REQUIREMENTS[client]]
    ended = subprocess.run(pip, capture_output=True, text=True)
    if ended.returncode and NO_ANSWER.search(ended.stderr):
        pytest.skip(f"{client}: the package index does not answer")
    if ended.returncode and OTHER_PYTHON.search(ended.stderr):
        pytest.skip(f"{client}: {REQUIREMENTS[client]} is not for Python {sys.version.split()[0]}")
    assert ended.returncode == 0, ended.stderr


def said_to(client: str, url: str, home: Path) -> Any:
    """What came back, as the script of a client prints it."""
    told = {"question": "What is the capital of Norway?", "schema": SCHEMA}
    called = {"tool_question": TURNS[0]["content"], "told": TURNS[2]["content"], "tools": RECORDED["tools"]}
    asked = {"url": url, "model": "sample-int8", "context": CONTEXT, **told, **called}
    kept = {name: value for name, value in os.environ.items() if not re.match(r"OPENAI_|AIDER_|XDG_|PYTHON", name)}
    home.mkdir()
    ended = subprocess.run(
        [str(python_of(client)), str(ROOT / "tests" / "clients" / f"ask_{client}.py"), json.dumps(asked)],
        env=kept | SILENT | {"HOME": str(home), "LLM_USER_PATH": str(home / "llm")},
        cwd=home, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("client", [client for client in REQUIREMENTS if client != "aider"])
def test_a_client_chats_streams_calls_and_gets_values(client, url, tmp_path):
    got = said_to(client, url, tmp_path / "home")
    assert got["text"] == ANSWER
    assert got["calls"] == [call["function"] for call in TURNS[1]["tool_calls"]]
    for value in got["structured"]:
        jsonschema.validate(json.loads(value), SCHEMA)
    if client == "instructor":  # streams a value that grows, and carries out no call
        assert len(got["grown"]) > 1
        assert [len(piece) for piece in got["grown"]] == sorted(len(piece) for piece in got["grown"])
        return
    assert len(got["pieces"]) > 1
    assert "".join(got["pieces"]) == ANSWER
    assert got["answer"].strip() == TURNS[3]["content"]


def test_aider_asks_and_survives_what_is_no_edit(url, tmp_path):
    """The sample can not write the edits that aider understands; a file is then as it was."""
    got = said_to("aider", url, tmp_path / "home")
    assert "Oslo" in got["text"]
    assert "Oslo" in got["streamed"]
    assert "Tokens:" in got["edited"]
    assert got["file"] == "What is the capital of Norway?\n"
