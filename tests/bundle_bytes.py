"""SHA-256 of what an export of the sample writes before anything is measured: integers, row files, side files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from export.checkpoint.checkpoint import Checkpoint
from export.language.side_files import read_side_files
from export.language.vocabulary import write_vocabulary
from export.weights.linears import quantize_weights
from export.weights.plan import storage_plan
from export.weights.row_files import write_row_files
from quantize.recipe import RECIPES

ROOT = Path(__file__).resolve().parent
SAMPLE = ROOT / "sample" / "checkpoint"
GOLDEN = ROOT / "golden" / "bundle_bytes.json"
RECIPES_HELD = ("float", "int8", "int4-datafree")


def hashes(recipe: str, folder: Path) -> dict[str, str]:
    """By file of the bundle; `linears` is every integer and every scale of the weights, in the order of their names."""
    checkpoint = Checkpoint.open(SAMPLE)
    bundle, scratch = folder / "bundle", folder / "scratch"
    for path in (bundle, scratch):
        path.mkdir()
    read_side_files(checkpoint)[0].copy(bundle)
    write_vocabulary(bundle)
    quantize_weights(checkpoint, storage_plan(checkpoint, RECIPES[recipe]), scratch)
    write_row_files(checkpoint, storage_plan(checkpoint, RECIPES[recipe]), bundle)
    files = {path.relative_to(bundle).as_posix(): digest([path]) for path in bundle.rglob("*") if path.is_file()}
    return dict(sorted((files | {"linears": digest(sorted(scratch.rglob("*.npy")))}).items()))


def digest(paths: list[Path]) -> str:
    contents = hashlib.sha256()
    for path in paths:
        contents.update(path.name.encode() + path.read_bytes())
    return contents.hexdigest()


def of_every_recipe() -> dict[str, dict[str, str]]:
    """What `make golden` writes."""
    by_recipe = {}
    for recipe in RECIPES_HELD:
        with TemporaryDirectory() as folder:
            by_recipe[recipe] = hashes(recipe, Path(folder))
    return by_recipe
