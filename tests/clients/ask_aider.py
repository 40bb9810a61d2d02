"""What the command `aider` gets from a server when it is to edit a file, as one line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

asked = json.loads(sys.argv[1])
MODEL = f"openai/{asked['model']}"
LENGTHS = {"max_input_tokens": asked["context"], "max_output_tokens": 256, "litellm_provider": "openai", "mode": "chat"}
Path("metadata.json").write_text(json.dumps({MODEL: LENGTHS}))  # of a model that it does not know it asks a web site
Path("fact.txt").write_text(asked["question"] + "\n")
QUIET = ["--no-pretty", "--no-fancy-input", "--no-git", "--yes-always", "--no-check-update", "--no-show-release-notes"]
SERVER = ["--openai-api-base", asked["url"], "--openai-api-key", "none", "--model", MODEL]
METADATA = ["--model-metadata-file", "metadata.json", "--no-show-model-warnings"]


def said(*words: str) -> str:
    """Raises CalledProcessError where it ends with an error."""
    command = [sys.executable, "-m", "aider", *QUIET, *SERVER, *METADATA, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout


text = said("--no-stream", "--chat-mode", "ask", "--message", asked["question"])
streamed = said("--stream", "--chat-mode", "ask", "--message", asked["question"])
edited = said("--edit-format", "whole", "--message", "Write the answer into the file.", "fact.txt")
print(json.dumps({"text": text, "streamed": streamed, "edited": edited, "file": Path("fact.txt").read_text()}))
