"""The golden set of the applications: whole, the same every time, and refused where it says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle.bundle import Bundle
from runtime.errors import GemmaError
from tests.hostile import CASES
from tests.mobile.write_golden import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def golden(bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("golden") / "golden"
    main(bundle("sample", "int8"), out)
    return out


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_file_is_described_and_holds_something(golden):
    described = (Path(__file__).parent / "README.md").read_text()
    for path in golden.glob("*.jsonl"):
        assert f"`{path.name}`" in described
        assert {key for key in entries(path)[0] if f"`{key}`" not in described} <= {"name", "context", *PARTS}


PARTS = (
    "base",
    "weights",
    "loading",
    "rows",
    "tokenizer",
    "caches",
    "rotary",
    "growing",
    "activations",
    "scores",
    "floats",
)


def test_there_are_ten_thousand_different_lines(golden):
    lines = entries(golden / "lines.jsonl")
    assert len(lines) == 10_000
    assert len({line["bytes"] for line in lines}) > 9_000


def test_it_is_the_same_every_time(golden, tmp_path):
    main(golden / "bundle", tmp_path / "again")
    for path in golden.glob("*.jsonl"):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_sound_bundle_stays_sound_and_damaged_ones_are_refused(golden):
    Bundle.open(golden / "bundle")
    cases = entries(golden / "hostile.jsonl")
    assert {case["stage"] for case in cases} == {"open", "load", "chat", "verify"}
    followed = {case.name for case in CASES if case.app == "open" and not case.commands}  # a link to the same file
    assert followed == {"link tokenizer.json"}
    for case in cases:
        if case["stage"] == "open" and case["name"] not in followed:
            with pytest.raises(GemmaError):
                Bundle.open(golden / case["folder"])
