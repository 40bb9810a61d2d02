"""`gemma-edge verify`: hashes, the compact vocabulary, the golden answers, with the runtime alone."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..bundle.bundle import Bundle
from ..bundle.parity import PartReport
from ..bundle.vocabulary import Vocabulary
from ..engine.engine import ENGINES, first_engine, open_engine
from ..errors import GemmaError
from ..language.check_vocabulary import check_equal
from ..language.tokenizer import read_pieces
from ..measure.golden import Check, Goldens, check
from ..parts.golden import check_golden_parts
from ..progress import Progress
from .flags import add_threads
from .notices import print_notices

NO_VOCABULARY = "text     no compact vocabulary: applications refuse this bundle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Check a bundle on this machine: the hash of every file, the vocabulary, and whether it still gives its golden "
        "answers."
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="the folder that `gemma-edge export` wrote")
    add_threads(parser)
    parser.add_argument(
        "--engine", choices=ENGINES, help="what repeats the golden answers (default: the first that the bundle is for)"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")


def run(args: argparse.Namespace) -> int:
    bundle = Bundle.open(args.bundle)
    print_notices(bundle)
    total = sum(entry.size for entry in bundle.manifest.files.values())
    with Progress("hashing", total) as progress:
        bundle.check_hashes(lambda name, size: progress.advance(size))
    lines = vocabulary_lines(bundle)
    goldens = bundle.json(bundle.manifest.golden, Goldens)
    checks = repeat(bundle, goldens, args.engine or first_engine(bundle.manifest), args.threads)
    parts = check_golden_parts(bundle, args.threads)
    report(args, bundle, goldens, checks, lines, parts)
    if not all(repeated.passes(goldens.tolerance) for repeated in checks):
        worst = max(repeated.worst for repeated in checks)
        raise GemmaError(
            f"{args.bundle}: golden answers differ by {worst:.3g}, and the tolerance is {goldens.tolerance:.3g}",
            "this onnxruntime or this processor computes something else; export the bundle again on this machine",
        )
    return 0


def vocabulary_lines(bundle: Bundle) -> int:
    """Lines that the compact vocabulary reads as tokenizer.json does; 0 without one."""
    if not bundle.manifest.vocabulary:
        return 0
    path = bundle.path(bundle.manifest.vocabulary)
    return check_equal(Vocabulary.open(path), read_pieces(bundle.path(bundle.manifest.tokenizer)), path)


def repeat(bundle: Bundle, goldens: Goldens, engine: str, threads: int) -> list[Check]:
    runs = open_engine(engine, bundle, threads)
    with Progress("golden answers", len(goldens.prompts)) as progress:
        checks = []
        for golden in goldens.prompts:
            checks.append(check(runs, golden, goldens.tolerance))
            progress.advance(1)
    return checks


def report(
    args: argparse.Namespace,
    bundle: Bundle,
    goldens: Goldens,
    checks: list[Check],
    lines: int,
    parts: dict[str, PartReport],
) -> None:
    passed = all(repeated.passes(goldens.tolerance) for repeated in checks)
    figures = {
        "files": len(bundle.manifest.files),
        "bytes": sum(entry.size for entry in bundle.manifest.files.values()),
        "vocabulary_lines": lines,
        "golden_steps": sum(repeated.steps for repeated in checks),
        "worst_logit_difference": max(repeated.worst for repeated in checks),
        "wrong_tokens": sum(repeated.tokens for repeated in checks),
        "tolerance": goldens.tolerance,
        "passed": passed,
        **({"parts": {name: part.worst_difference for name, part in parts.items()}} if parts else {}),
    }
    if args.json:
        print(json.dumps(figures))
        return
    print(f"hashes   {figures['files']} files, {figures['bytes']:,} bytes: all as in the manifest")
    print(f"text     {lines} lines: the compact vocabulary reads them as the tokenizer" if lines else NO_VOCABULARY)
    print(
        f"golden   {figures['golden_steps']} steps: {figures['wrong_tokens']} wrong tokens, "
        f"largest logit difference {figures['worst_logit_difference']:.2g} of {goldens.tolerance:.2g} allowed"
    )
    for name, part in parts.items():
        print(f"part     {part.line(name)}")
    print("passed" if passed else "FAILED")
