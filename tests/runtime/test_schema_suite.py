"""Every finished answer to a schema of the public JSON-Schema-Test-Suite is valid, by another validator."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runtime.errors import GemmaError
from runtime.language.events import End, Text
from runtime.session.model import Model
from runtime.session.options import Options
from runtime.session.structured import JsonSchema

SUITE = "jsonschema==4.26.0"  # its source package carries the suite
ASKED = [{"role": "user", "content": "What is the capital of Norway?"}]
TOKENS = 60


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    words = ["download", "--quiet", "--no-deps", "--no-binary", ":all:", SUITE, "-d", str(folder)]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no package index has the source of {SUITE}")
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("*/json/tests/draft2020-12"))


def schemas(suite: Path) -> Iterator[tuple[str, Any]]:
    for file in sorted(suite.glob("*.json")):
        for case in json.loads(file.read_text(encoding="utf-8")):
            yield f"{file.stem}: {case['description']}", case["schema"]


@pytest.mark.slow
def test_every_finished_answer_is_valid(bundle, suite):
    session = Model.open(bundle("sample", "int4-datafree"), threads=1).session()
    ends: Counter[str] = Counter()
    for seed, (name, schema) in enumerate(schemas(suite)):
        try:
            form = JsonSchema(schema)
            events = session.chat(
                ASKED,
                Options(temperature=1.0, top_k=0, top_p=1.0, seed=seed, max_new_tokens=TOKENS, response_format=form),
            )
        except GemmaError:  # a sentence: the grammar has no word for it
            ends["refused"] += 1
            continue
        *said, end = events
        assert isinstance(end, End)
        ends[end.stop] += 1
        if end.stop == "stop":
            text = "".join(event.text for event in said if isinstance(event, Text))
            assert jsonschema.Draft202012Validator(schema).is_valid(json.loads(text)), (name, text)
    print(dict(ends))
    assert set(ends) <= {"refused", "length", "stop"}
    assert ends["stop"] >= 100
