"""Recipes: the first rule that matches, and no tensor without one."""

from __future__ import annotations

import pytest

from export.model.config import parse_config
from export.weights.plan import placements
from quantize.recipe import DEFAULT, RECIPES, Gate, Recipe, rules
from quantize.scheme import FLOAT, INT4_B32, INT4_B128, INT8, INT8_B32
from tests import tiny


def test_the_first_match_wins():
    recipe = Recipe("r", "", rules(("*.v_proj", INT8), ("layers.0.*", FLOAT), ("*", INT4_B32)), Gate(0, 0))
    assert recipe.scheme("layers.0.self_attn.v_proj") == INT8
    assert recipe.scheme("layers.0.self_attn.q_proj") == FLOAT
    assert recipe.scheme("layers.1.self_attn.q_proj") == INT4_B32


def test_a_tensor_without_a_rule_is_named():
    with pytest.raises(LookupError, match="recipe r has no rule for head"):
        Recipe("r", "", rules(("layers.*", INT8)), Gate(0, 0)).scheme("head")


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("config", tiny.CONFIGS)
def test_every_tensor_of_every_shape_has_a_rule(name, config):
    parsed = parse_config(tiny.CONFIGS[config], config)
    labels = [placement.name for placement in placements(parsed) if placement.inputs]
    schemes = [RECIPES[name].scheme(label) for label in labels]
    assert all(scheme.is_float == (name == "float") for scheme in schemes)


@pytest.mark.parametrize(
    ("recipe", "tensor", "scheme"),
    [
        ("float", "head", FLOAT),
        ("int8", "rows.tokens", INT8),
        ("int8", "head", INT8_B32),
        ("int8", "layers.3.mlp.down_proj", INT8_B32),
        ("int4", "rows.tokens", INT8),
        ("int4", "rows.per_layer", INT8),
        ("int4", "head", INT4_B128),
        ("int4", "per_layer_model_projection", INT8),
        ("int4", "layers.3.per_layer_input_gate", INT8),
        ("int4", "layers.3.per_layer_projection", INT8),
        ("int4", "layers.3.self_attn.v_proj", INT4_B128),
        ("int4", "layers.3.self_attn.o_proj", INT4_B128),
        ("int4-b32", "layers.3.self_attn.v_proj", INT4_B32),
        ("int4-mixed", "layers.3.self_attn.v_proj", INT8_B32),
        ("int4-mixed", "layers.3.self_attn.o_proj", INT8_B32),
        ("int4-mixed", "layers.3.self_attn.q_proj", INT4_B32),
        ("int4-head8", "head", INT8),
    ],
)
def test_a_recipe_stores_a_tensor_so(recipe, tensor, scheme):
    assert RECIPES[recipe].scheme(tensor) == scheme


def test_plain_rounding_differs_from_the_datafree_recipe_in_its_scales_alone():
    plain, free = RECIPES["int4-absmax"], RECIPES["int4-datafree"]
    assert plain.rules == free.rules
    assert (plain.scales, free.scales) == ("absmax", "least-squares")


@pytest.mark.parametrize(
    ("recipe", "tensor", "scales"),
    [
        ("int4", "head", "positive"),
        ("int4", "layers.3.self_attn.v_proj", "least-squares"),
        ("int4-head8", "head", "least-squares"),
        ("int8", "head", "least-squares"),
        ("int4-absmax", "head", "absmax"),
    ],
)
def test_only_a_head_that_finds_candidates_has_positive_scales(recipe, tensor, scales):
    assert RECIPES[recipe].scales_of(tensor) == scales


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_a_two_stage_head_has_finer_rows_to_go_back_to(recipe):
    head, rows = recipe.scheme("head"), recipe.scheme("rows.tokens")
    assert not recipe.rescored or rows.bits > head.bits


def test_names_are_the_keys_and_the_default_is_one():
    assert all(name == recipe.name for name, recipe in RECIPES.items())
    assert DEFAULT in RECIPES
