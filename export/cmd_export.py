"""`gemma-edge export`: flags become values, then one call."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from quantize.recipe import DEFAULT, RECIPES, RELEASED, Recipe
from runtime.errors import GemmaError

from . import targets
from .checkpoint import Checkpoint
from .inspect_checkpoint import facts_of
from .side_files import check_side_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    widest = max(map(len, RECIPES))
    recipes = "\n".join(f"  {recipe.name:{widest}} {recipe.summary}" for recipe in RECIPES.values())
    parser.description = "Make a bundle of a checkpoint, and prove it against the float model."
    parser.epilog = f"recipes:\n{recipes}"
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a folder as released on the hub, or a hub id")
    parser.add_argument(
        "--to",
        default="onnx",
        metavar="TARGETS",
        help=f"comma-separated, of: {', '.join(targets.available())} (default: %(default)s)",
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"what is stored how, see below (default: {RELEASED} if trained for few bits, else {DEFAULT})",
    )
    parser.add_argument(
        "--calibrate",
        metavar="TEXT",
        help="auto: the model writes the text that a calibrated recipe fits the integers to; none: fit to nothing; "
        "or a UTF-8 file (default: auto where the recipe is calibrated)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="BUNDLE", help="folder to make")
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything and print what would be made, then stop"
    )
    parser.add_argument("--force", action="store_true", help="replace a bundle that is there")


def run(args: argparse.Namespace) -> int:
    if args.recipe is not None:
        named_recipe(args.recipe)
    names = [name.strip() for name in args.to.split(",")]
    if args.output is None and not args.dry_run:
        raise GemmaError("no place for the bundle", "name it with -o BUNDLE")
    checkpoint = Checkpoint.open(args.checkpoint)
    recipe = calibrated_recipe(named_recipe(args.recipe or default_recipe(checkpoint)), args.calibrate)
    if args.dry_run:
        return dry_run(args, checkpoint, recipe, names)
    from runtime.resident_memory import peak_rss

    from .calibration_text import AUTO, Text
    from .pipeline import export_bundle

    text = Text.of(args.calibrate or "auto") if recipe.calibrated else AUTO
    for report in export_bundle(checkpoint, args.output, names, recipe, replace=args.force, text=text):
        print(*report.lines(), sep="\n", file=sys.stderr)
    print(f"peak memory {peak_rss() / 1e6:,.0f} MB", file=sys.stderr)
    print(args.output)
    return 0


def default_recipe(checkpoint: Checkpoint) -> str:
    return RELEASED if checkpoint.is_packed or checkpoint.on_grid else DEFAULT


def named_recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise GemmaError(f"unknown recipe: {name}", f"choose from {', '.join(RECIPES)}")
    return RECIPES[name]


def calibrated_recipe(recipe: Recipe, choice: str | None) -> Recipe:
    """Raises GemmaError for a text that the recipe has no use for."""
    if choice == "none":
        return dataclasses.replace(recipe, calibration="none")
    if choice is not None and not recipe.calibrated:
        calibrated = ", ".join(other.name for other in RECIPES.values() if other.calibrated)
        raise GemmaError(f"--calibrate {choice}: recipe {recipe.name} is not calibrated", f"choose from {calibrated}")
    return recipe


def dry_run(args: argparse.Namespace, checkpoint: Checkpoint, recipe: Recipe, names: list[str]) -> int:
    from runtime.bundle import check_destination
    from runtime.cmd_inspect import text

    targets.load_targets(names)
    if args.output is not None:
        check_destination(args.output, replace=args.force)
    found = facts_of(checkpoint)
    check_side_files(checkpoint.folder)
    found["recipes"] = {recipe.name: found["recipes"][recipe.name]}
    print(text(found))
    return 0
