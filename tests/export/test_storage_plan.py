"""What is stored how is decided in one file, for every kind of checkpoint."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from export.checkpoint.checkpoint import Checkpoint
from export.model.config import parse_config
from export.model.tensors import needed
from export.weights.plan import matrix_of, placements, storage_plan
from quantize.recipe import RECIPES, RELEASED
from quantize.scheme import INT4_B32, INT8
from runtime.errors import GemmaError
from tests import tiny

EXPORT = Path(__file__).resolve().parents[2] / "export"
DECIDES = ("weights/plan.py", "checkpoint/")
ASKED = {"on_grid", "keeps_released_integers"}


def questions(path: Path) -> set[str]:
    """What a file asks of a release: attributes, and calls of `packed`."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)} & ASKED
    calls = [node.func for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    return attributes | {"packed()" for call in calls if call.attr == "packed"}


def test_only_the_plan_asks_how_a_checkpoint_was_released():
    by_file = {path.relative_to(EXPORT).as_posix(): questions(path) for path in EXPORT.rglob("*.py")}
    assert by_file["weights/plan.py"] == {"on_grid", "keeps_released_integers", "packed()"}
    assert {file for file, asked in by_file.items() if asked and not file.startswith(DECIDES)} == set()


@pytest.mark.parametrize("name", tiny.CONFIGS)
def test_every_row_of_every_tensor_has_a_place(name):
    """And no more than the head's table has two."""
    config = parse_config(tiny.CONFIGS[name], name)
    parameters = [placement.parameter for placement in placements(config) if placement.parameter]
    assert len(set(parameters)) == len(parameters)
    rows: dict[str, int] = {}
    for placement in placements(config):
        rows[placement.tensor] = rows.get(placement.tensor, 0) + len(placement.rows)
    twice = {"embed_tokens.weight"}
    for tensor, shape in needed(config).items():
        assert rows[tensor] == shape[0] * (2 if tensor in twice else 1), tensor


def test_stacked_matrices_are_one_above_the_other():
    """As experts are: (experts, rows, inputs)."""
    assert matrix_of((8, 32, 64)) == (256, 64)
    assert matrix_of((32, 64)) == (32, 64)
    assert matrix_of((64,)) == (64, 0)
    assert matrix_of(()) == (1, 0)


def test_floats_are_rounded_and_vectors_stay(checkpoint):
    plan = storage_plan(Checkpoint.open(checkpoint("e2b")), RECIPES["int4-datafree"])
    stored = {tensor.parameter or tensor.name: tensor for tensor in plan.tensors}
    assert (stored["layers.0.mlp.up_proj.weight"].source, stored["layers.0.mlp.up_proj.weight"].scheme) == (
        "rounded",
        INT4_B32,
    )
    assert (stored["rows.tokens"].source, stored["rows.tokens"].scheme) == ("rounded", INT8)
    assert stored["norm.weight"].source == "float"
    assert stored["head.weight"].scales == "positive"
    assert plan.rules == []
    assert plan.rescored == RECIPES["int4-datafree"].rescored
    assert not plan.is_float
    assert storage_plan(Checkpoint.open(checkpoint("e2b")), RECIPES["float"]).is_float


def test_a_release_of_integers_is_kept_or_rounded_anew(generated):
    release = Checkpoint.open(generated("e2b-qat-mobile-tiny"))
    kept, rounded = storage_plan(release, RECIPES[RELEASED]), storage_plan(release, RECIPES["int4-datafree"])
    matrices = [tensor for tensor in kept.tensors if tensor.inputs]
    assert {tensor.name for tensor in matrices if tensor.source != "packed"} == {"per_layer_model_projection"}
    assert [name for name, _ in kept.rules[:2]] == ["rows.tokens", "rows.per_layer"]
    assert kept.rescored == 0
    assert set(kept.cache_scales) == set(release.cache_scales) != set()
    assert {tensor.source for tensor in rounded.tensors} == {"rounded", "float"}
    assert (rounded.rules, rounded.cache_scales) == ([], {})


def test_integers_are_kept_of_a_checkpoint_that_has_some(checkpoint):
    with pytest.raises(GemmaError, match="recipe as-released is for a release of integers, and this one has floats"):
        storage_plan(Checkpoint.open(checkpoint("e2b")), RECIPES[RELEASED])
