"""`gemma-edge synth`: a checkpoint of random values in a released shape."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.errors import GemmaError
from runtime.needs import check_installed
from runtime.progress import Progress

from .synth.shapes import SHAPES, named_shape


def add_arguments(parser: argparse.ArgumentParser) -> None:
    widest = max(map(len, SHAPES))
    shapes = "\n".join(f"  {shape.name:{widest}}  {shape.summary}" for shape in SHAPES.values())
    parser.description = (
        "Write a checkpoint of random values, with the layout, names, shapes and dtypes of a release. Use it to "
        "measure an export or a machine without a download. The model answers with noise."
    )
    parser.epilog = f"shapes:\n{shapes}"
    parser.add_argument("shape", metavar="SHAPE", help="the shape to write, see below")
    parser.add_argument("folder", metavar="DIR", type=Path, help="the folder to write")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="S",
        help="a whole number; the same seed writes the same bytes (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="replace the generated checkpoint that is already there")


def run(args: argparse.Namespace) -> int:
    check_installed(("torch", "safetensors", "ml_dtypes"), "export", "synth")
    shape = named_shape(args.shape)
    if args.seed < 0:
        raise GemmaError(f"--seed must be 0 or more, not {args.seed}", "leave it out, or give another number")
    from .synth.write import check_place, shards, synthesize

    check_place(args.folder, replace=args.force)
    with Progress("writing", sum(shard.size for shard in shards(shape, args.seed))) as progress:
        synthesize(shape, args.folder, args.seed, replace=args.force, progress=progress.advance)
    print(args.folder)
    return 0
