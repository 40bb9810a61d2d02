"""A bundle of generated weights, made without writing the float checkpoint, and kept in the cache folder."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from quantize.recipe import Recipe
from runtime.bundle.bundle import MANIFEST
from runtime.measure.bench_cache import cache_folder

from .checkpoint.checkpoint import Checkpoint
from .choose_recipe import default_name, named_recipe, suited
from .inspect_checkpoint import sizes
from .pipeline import export_bundle
from .synth.shapes import NamedShape, named_shape
from .synth.write import check_space, generated_checkpoint
from .weights.plan import storage_plan

SEED = 0
ROOMS = ("export", "quantize", "runtime")


def cached_bundle(name: str, recipe_name: str | None) -> Path:
    """The bundle of a shape and a recipe (None: the default), made if it is not in the cache; nothing is calibrated.

    Raises GemmaError for an unknown shape or recipe, or a disk that is too small.
    """
    shape = named_shape(name)
    recipe_name = recipe_name or default_name(of_integers=shape.of_integers)
    recipe = named_recipe(recipe_name).uncalibrated()
    destination = cache_folder() / f"{name}-{recipe_name}-{fingerprint(shape, recipe)}.bundle"
    if not (destination / MANIFEST).is_file():
        make(shape, recipe, destination)
    return destination


def make(shape: NamedShape, recipe: Recipe, destination: Path) -> None:
    with generated(shape) as checkpoint:
        size = sizes(checkpoint, storage_plan(checkpoint, suited(recipe, checkpoint.config)))
        check_space(destination, size["disk"] + size["resident"])  # quantized weights wait beside the bundle
        print(f"making {destination} ({size['disk'] / 1e9:.1f} GB): only the first time", file=sys.stderr)
        cache_folder().mkdir(parents=True, exist_ok=True)
        export_bundle(checkpoint, destination, ["onnx"], recipe)
    print("`gemma-edge bench --clean` removes it", file=sys.stderr)


@contextmanager
def generated(shape: NamedShape) -> Iterator[Checkpoint]:
    """Its small files are in a folder that goes away; its weights are nowhere."""
    with TemporaryDirectory(prefix="gemma-edge-") as parent:
        folder = Path(parent) / f"generated-{shape.name}"
        folder.mkdir()
        yield generated_checkpoint(shape, SEED, folder)


def fingerprint(shape: NamedShape, recipe: Recipe, rooms: Sequence[str] = ROOMS) -> str:
    """A hash of all that a bundle depends on, the exporter's own code among it."""
    digest = hashlib.sha256(f"{version('gemma-edge')} {recipe!r} {SEED}".encode() + shape.config_bytes())
    home = Path(__file__).parent.parent
    for path in sorted(path for room in rooms for path in (home / room).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
