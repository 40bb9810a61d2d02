"""`gemma-edge export`: flags become values, then one call."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from quantize.recipe import DEFAULT, RECIPES, RELEASED
from runtime.bundle.bundle import Bundle
from runtime.bundle.parity import Reports
from runtime.errors import GemmaError
from runtime.needs import check_installed

from . import targets
from .choose_recipe import named_recipe
from .request import Request

if TYPE_CHECKING:
    from .prove.call_scripts import Script

PACKAGES = ("torch", "safetensors", "jsonschema")  # torch is imported later, and for a large model in another process


def add_arguments(parser: argparse.ArgumentParser) -> None:
    widest = max(map(len, RECIPES))
    recipes = "\n".join(f"  {recipe.name:{widest}} {recipe.summary}" for recipe in RECIPES.values())
    parser.description = (
        "Make a bundle from a checkpoint, and compare it with the float model. If it deviates by more than the recipe "
        "allows, no bundle is written."
    )
    parser.epilog = f"recipes:\n{recipes}"
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a folder as released or saved, or a hub id")
    parser.add_argument(
        "--to",
        default="onnx",
        metavar="TARGETS",
        help=f"one or more of {', '.join(targets.available())}, with commas between them (default: %(default)s)",
    )
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"how weights are stored, see below (default: {RELEASED} for a release of integers, else {DEFAULT})",
    )
    parser.add_argument(
        "--calibrate",
        metavar="TEXT",
        help="the text that a calibrated recipe reads. auto: the model writes it. none: do not calibrate. Otherwise "
        "the name of a UTF-8 file (default: auto, for a recipe that is calibrated)",
    )
    parser.add_argument(
        "--calls",
        type=Path,
        metavar="FILE",
        help="a file of JSON lines, each with messages and tools: check that the bundle makes the checkpoint's calls",
    )
    parser.add_argument(
        "--accept-loss",
        action="store_true",
        help="write the bundle even if it deviates from the float model by more than the recipe allows; "
        "the bundle records that",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="BUNDLE", help="the folder to write")
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, print what would be written, and stop"
    )
    parser.add_argument("--force", action="store_true", help="replace the bundle that is already there")


def run(args: argparse.Namespace) -> int:
    check_installed(PACKAGES, "export", "export")
    from .draft_process import export_apart, is_large
    from .prove.call_scripts import answering, read_scripts

    if args.recipe is not None:
        named_recipe(args.recipe)
    if args.output is None and not args.dry_run:
        raise GemmaError("no output given", "add -o BUNDLE")
    names = tuple(name.strip() for name in args.to.split(","))
    request = Request(args.checkpoint, names, args.recipe, args.calibrate)
    scripts = read_scripts(args.calls) if args.calls else []
    if scripts:
        answering(names)
    if args.dry_run:
        return dry_run(args, request, scripts)
    export = export_apart if is_large(request.source) else export_here
    proof = export(request, args.output, replace=args.force, scripts=scripts, accept_loss=args.accept_loss)
    print(*proof.lines(), sep="\n", file=sys.stderr)
    peak = Bundle.open(args.output).manifest.provenance.peak_rss_bytes
    print(f"peak memory {peak / 1e6:,.0f} MB", file=sys.stderr)
    print(args.output)
    return 0


def export_here(
    request: Request, destination: Path, *, replace: bool, scripts: Sequence[Script] = (), accept_loss: bool = False
) -> Reports:
    from .pipeline import export_bundle

    checkpoint, recipe, text = request.opened()
    return export_bundle(
        checkpoint,
        destination,
        request.targets,
        recipe,
        replace=replace,
        text=text,
        scripts=scripts,
        accept_loss=accept_loss,
        settings=request.settings,
    )


def dry_run(args: argparse.Namespace, request: Request, scripts: Sequence[Script]) -> int:
    from runtime.bundle.bundle import check_destination
    from runtime.cli.table import text

    from .inspect_checkpoint import facts_of
    from .language.side_files import read_side_files
    from .pipeline import check_calls, speaker_of
    from .weights.plan import storage_plan

    checkpoint, recipe, _ = request.opened()
    loaded = targets.load_targets(request.targets)
    if args.output is not None:
        check_destination(args.output, replace=args.force)
    storage_plan(checkpoint, recipe)
    checkpoint.check_head()
    facts = facts_of(checkpoint)
    side, _ = read_side_files(checkpoint)
    with TemporaryDirectory(prefix="gemma-edge-") as folder:
        speaker = speaker_of(Path(folder), *side.copy(Path(folder)), side)
        check_calls(scripts, speaker, loaded, checkpoint)
    side.print_notes()
    facts["recipes"] = {recipe.name: facts["recipes"][recipe.name]}
    print(text(facts))
    return 0
