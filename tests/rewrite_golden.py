"""`make golden`: write the committed answers again; read the diff before you commit it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run as a script, this folder comes first, and it has an `export` too

from runtime.cli.main import COMMANDS, main  # noqa: E402
from tests.bundle_bytes import GOLDEN as BYTES  # noqa: E402
from tests.bundle_bytes import of_every_recipe  # noqa: E402
from tests.golden_sentence import GOLDEN as SENTENCE  # noqa: E402
from tests.golden_sentence import answer as sentence  # noqa: E402
from tests.measured import GOLDEN as MEASURED  # noqa: E402
from tests.measured import export_and_measure  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"


COLUMNS = "80"  # a terminal of this width shows the committed help


def help_text(*words: str) -> str:
    """What `--help` prints in a terminal of 80 columns."""
    printed = io.StringIO()
    terminal = mock.patch.dict(os.environ, COLUMNS=COLUMNS)
    with terminal, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return printed.getvalue()


# File below tests/golden -> what it must hold.
ANSWERS: dict[str, Callable[[], str]] = {
    "help/gemma-edge.txt": help_text,
    BYTES.name: lambda: json.dumps(of_every_recipe(), indent=1) + "\n",
    SENTENCE.name: lambda: json.dumps(sentence(), indent=1, ensure_ascii=False) + "\n",
    MEASURED.name: lambda: json.dumps(export_and_measure()["measured"], indent=1) + "\n",
    **{f"help/{command}.txt": partial(help_text, command) for command in COMMANDS},
}


def rewrite() -> None:
    for name, answer in ANSWERS.items():
        path = GOLDEN / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(answer(), encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    rewrite()
