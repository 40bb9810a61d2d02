"""A folder `to_NAME` is a target: found by its name, typed, and light until it is used."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from export import to_coreml, to_executorch
from export.targets import Target, available, find_target, load_targets, single_stage
from export.to_coreml.settings import Settings
from runtime.bundle.bundle import Bundle
from runtime.errors import GemmaError

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "onnx", "executorch", "coremltools")


@pytest.mark.parametrize("name", available())
def test_a_target_has_the_name_of_its_folder(name):
    target = find_target(name)
    assert isinstance(target, Target)
    assert target.name == name
    assert target.runners[-1].name.split()[0] == name
    assert not target.runners[-1].exact  # the last gives the golden answers, of what ships


def test_a_target_is_found_without_its_packages():
    """A large model's proof runs in a process that has no room for them."""
    code = (
        "import sys; from export.targets import available, find_target\n"
        "print([find_target(name).name for name in available()])\n"
        f"print([package for package in {HEAVY} if package in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout == f"{available()}\n[]\n"


def test_a_value_is_used_as_it_is():
    target = to_coreml.target(Settings(tokens=16, context=64))
    assert load_targets([target]) == {"coreml": target}
    assert (target.longest(32), target.longest(1024)) == (32, 64)
    assert find_target("onnx").longest(1024) == 1024


@pytest.mark.parametrize("wanted", [[], ["onnx", "tflite"]])
def test_an_unknown_target_is_named(wanted):
    with pytest.raises(GemmaError, match="unknown target: (none|tflite)") as refused:
        load_targets(wanted)
    assert refused.value.hint == f"choose from {', '.join(available())}"


@pytest.mark.parametrize("module", [to_coreml, to_executorch])
def test_another_context_changes_nothing_else(module):
    target = module.TARGET.with_context(512)
    assert target.context == 512
    same = [
        field.name for field in dataclasses.fields(Target) if field.name not in ("context", "with_context", "lower")
    ]
    assert [getattr(target, name) for name in same] == [getattr(module.TARGET, name) for name in same]
    assert target.lower.args[0] == dataclasses.replace(module.TARGET.lower.args[0], context=512)


def test_a_single_stage_is_the_same_bundle_with_the_graphs_logits(bundle):
    two = Bundle.open(bundle("e2b", "int4-datafree"))
    single = single_stage(two)
    assert (two.manifest.model.rescored > 0, single.manifest.model.rescored) == (True, 0)
    model = msgspec.structs.replace(single.manifest.model, rescored=two.manifest.model.rescored)
    assert msgspec.structs.replace(single.manifest, model=model) == two.manifest
