"""The table of recipes in MODEL_CARD.md: each one's bytes, perplexity and KL on what the sample itself writes.

    python tests/sample/recipes.py

The text is written by the float model with another seed than the one that calibrates.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from export.calibrate.speak import turn_texts, write
from export.calibrate.text import SEED
from export.checkpoint.checkpoint import Checkpoint
from export.language.side_files import read_side_files
from export.pipeline import export_bundle
from export.reference import FloatSource
from quantize.recipe import RECIPES
from runtime.cli.main import main as gemma_edge
from runtime.language.tokenizer import Tokenizer

SAMPLE = Path(__file__).parent / "checkpoint"
SEQUENCES, LENGTH = 16, 256


def write_talk(path: Path) -> None:
    """What the sample says with another seed: the text that it is used on."""
    checkpoint = Checkpoint.open(SAMPLE)
    source, generation = FloatSource(checkpoint), read_side_files(checkpoint)[0].generation
    tokenizer = Tokenizer(SAMPLE / "tokenizer.json", generation.bos, SAMPLE / "chat_template.jinja")
    sequences = write(source, turn_texts(tokenizer, generation.stop), SEQUENCES, LENGTH, SEED + 1)
    said = (tokenizer.pieces.decode(row.tolist(), skip_special_tokens=False) for row in sequences)
    path.write_text("\n".join(said), encoding="utf-8")


def evaluated(folders: list[Path], talk: Path) -> list[dict[str, Any]]:
    printed = io.StringIO()
    words = ["--text", str(talk), "--window-tokens", str(LENGTH), "--against", str(SAMPLE), "--json"]
    with contextlib.redirect_stdout(printed):
        if gemma_edge(["eval", *map(str, folders), *words]):
            sys.exit(1)
    figures: list[dict[str, Any]] = json.loads(printed.getvalue().splitlines()[-1])["bundles"]
    return figures


def main() -> int:
    recipes = [recipe for recipe in RECIPES.values() if not recipe.keeps_released_integers]
    with tempfile.TemporaryDirectory() as name:
        talk, folders = Path(name) / "talk.txt", [Path(name) / f"{recipe.name}.bundle" for recipe in recipes]
        write_talk(talk)
        for folder, recipe in zip(folders, recipes, strict=True):
            export_bundle(SAMPLE, folder, ["onnx"], recipe)
        print("| recipe | bundle, bytes | perplexity | KL, nats a token | top-1 agreement |\n|---|---|---|---|---|")
        for one in sorted(evaluated(folders, talk), key=lambda bundles: bundles["divergence"]["mean_kl"]):
            far = one["divergence"]
            figures = f"{one['bytes']:,} | {one['perplexity']:.4f} | {far['mean_kl']:.5f} | {far['agreement']:.1%}"
            print(f"| `{one['recipe']}` | {figures} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
