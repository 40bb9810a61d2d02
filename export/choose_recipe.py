"""Which recipe a checkpoint is exported with."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from quantize.recipe import DEFAULT, RECIPES, RELEASED, Recipe, Rule
from quantize.scheme import INT8
from runtime.errors import GemmaError

if TYPE_CHECKING:
    from .checkpoint.checkpoint import Checkpoint
    from .model.config import GemmaConfig


def choose_recipe(checkpoint: Checkpoint, name: str | None, choice: str | None) -> Recipe:
    """The named one, or that for such checkpoints; `choice` is --calibrate's.

    Raises GemmaError for an unknown name, or a text that the recipe has no use for.
    """
    recipe = calibrated_recipe(named_recipe(name or default_name(of_integers=checkpoint.of_integers)), choice)
    return suited(recipe, checkpoint.config)


def default_name(*, of_integers: bool) -> str:
    """The name of the recipe for a release of integers, or for one of floats."""
    return RELEASED if of_integers else DEFAULT


def named_recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise GemmaError(f"unknown recipe: {name}", f"choose from {', '.join(RECIPES)}")
    return RECIPES[name]


def calibrated_recipe(recipe: Recipe, choice: str | None) -> Recipe:
    if choice == "none":
        return recipe.uncalibrated()
    if choice is not None and not recipe.calibrated:
        calibrated = ", ".join(other.name for other in RECIPES.values() if other.calibrated)
        raise GemmaError(f"calibrate {choice}: recipe {recipe.name} is not calibrated", f"choose from {calibrated}")
    return recipe


def suited(recipe: Recipe, config: GemmaConfig) -> Recipe:
    """A recipe for a model: one that computes the best logits again from token rows needs a tied head.

    A head of its own has 8 bits instead, if it was not released as integers (DECISIONS.md).
    """
    if not config.own_head or not recipe.rescored:
        return recipe
    summary = f"{recipe.summary}; a head of its own, in one stage"
    return dataclasses.replace(recipe, summary=summary, rules=(Rule("head", INT8), *recipe.rules), rescored=0)
