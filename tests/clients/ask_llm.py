"""What the command `llm` gets from a server, as one line of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

asked = json.loads(sys.argv[1])
home = Path(os.environ["LLM_USER_PATH"])
home.mkdir()
model = {"model_id": "edge", "model_name": asked["model"], "api_base": asked["url"]}
entry = model | {"supports_tools": True, "supports_schema": True}
(home / "extra-openai-models.yaml").write_text(json.dumps([entry]))  # JSON is YAML too
LLM = [sys.executable, "-m", "llm", "-m", "edge", "--key", "none", "-o", "temperature", "0"]


def said(*words: str) -> str:
    return subprocess.run([*LLM, *words], check=True, capture_output=True, text=True, timeout=60).stdout


def streamed(*words: str) -> list[str]:
    """What is printed, as it comes."""
    with subprocess.Popen([*LLM, *words], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        descriptor = running.stdout.fileno()
        pieces = list(iter(lambda: os.read(descriptor, 4096).decode(), ""))
    assert running.returncode == 0
    return pieces


text = said("--no-stream", asked["question"]).removesuffix("\n")
pieces = streamed(asked["question"])

note = Path(os.environ["HOME"], "calls.json")
function = f'''
def lookup(country: str, field: str) -> str:
    """Look up a fact about a country"""
    import json
    with open({str(note)!r}, "a") as notes:
        notes.write(json.dumps({{"name": "lookup", "arguments": {{"country": country, "field": field}}}}) + "\\n")
    return {asked["told"]!r}
'''
answer = said("--functions", function, asked["tool_question"])
calls = [json.loads(line) for line in note.read_text().splitlines()]
structured = said("--no-stream", "--schema", json.dumps(asked["schema"]), asked["question"])
streamed_value = said("--schema", json.dumps(asked["schema"]), asked["question"])

pieces = ["".join(pieces).removesuffix("\n")] if len(pieces) == 1 else [*pieces[:-1], pieces[-1].removesuffix("\n")]
values = [structured, streamed_value]
print(json.dumps({"text": text, "pieces": pieces, "calls": calls, "answer": answer, "structured": values}))
