"""Parts in bundle.json: what they add to a bundle, and what they leave as it was."""

from __future__ import annotations

import json
import shutil

import pytest

from runtime.bundle.bundle import MANIFEST, Bundle
from runtime.bundle.manifest import version_of
from runtime.bundle.written import written
from runtime.cli.main import main
from tests.hostile import FUNCTION, reseal, with_part


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle("e2b"), tmp_path / "copy.bundle")


def test_a_bundle_without_parts_is_one_of_version_1_0(copy):
    raw = (copy / MANIFEST).read_bytes()
    manifest = Bundle.open(copy).manifest
    assert json.loads(raw)["version"] == [1, 0]
    assert "parts" not in json.loads(raw)
    assert written(manifest) == raw


def test_a_bundle_with_parts_is_one_of_version_1_1(copy):
    reseal(copy, with_part(settings={"sizes": [1, 0.5]}))
    manifest = Bundle.open(copy).manifest
    assert version_of(manifest.parts) == [1, 1]
    assert json.loads(written(manifest))["parts"]["extra"]["settings"] == {"sizes": [1, 0.5]}


def test_inspect_lists_parts_with_their_bytes_and_where_they_run(copy, capsys):
    functions = {"executorch": [FUNCTION]}
    reseal(copy, with_part("drafter", artifacts={}, functions=functions, golden="golden.json"))
    reseal(copy, with_part("vision", kind="tower"))
    reseal(copy, lambda manifest: manifest["artifacts"].update(executorch=manifest["artifacts"]["onnx"]))
    sizes = {name: (copy / name).stat().st_size for name in ("golden.json", "onnx/decoder.onnx", "onnx/decoder.data")}
    assert main(["inspect", str(copy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parts"] == {
        "drafter": {"kind": "echo", "bytes": sizes.pop("golden.json"), "runs in": "executorch (draft)"},
        "vision": {"kind": "tower", "bytes": sum(sizes.values()), "runs in": "onnx"},
    }


def test_inspect_says_nothing_of_parts_where_there_are_none(copy, capsys):
    assert main(["inspect", str(copy), "--json"]) == 0
    assert "parts" not in json.loads(capsys.readouterr().out)
