"""`gemma-edge eval`: perplexity of bundles, and how far they are from the float model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from ..bundle.bundle import Bundle
from ..bundle.sizes import sizes
from ..engine.engine import longest, open_engine
from ..errors import GemmaError
from ..language.tokenizer import Tokenizer
from ..machine.idle_cores import idle_cores
from ..measure.eval_page import page
from ..measure.evaluation import BundleQuality, Evaluation, Meter, table
from ..measure.page import check_page, write
from ..measure.perplexity import Windows, cut, ignore, score
from ..needs import needs
from ..progress import Progress
from .flags import add_engine, add_threads

LEAST_WINDOW = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measure how much quality a bundle has lost. With --text, print its perplexity on a text, computed as "
        "llama-perplexity does. With --against too, compare it with the float model at the same positions.\n"
        "With --calls and --against, check whether it calls the tools that the checkpoint calls."
    )
    parser.add_argument(
        "bundles", metavar="BUNDLE", type=Path, nargs="+", help="the folder that `gemma-edge export` wrote"
    )
    parser.add_argument("--text", metavar="FILE", type=Path, help="a UTF-8 text to read")
    parser.add_argument(
        "--calls",
        metavar="FILE",
        type=Path,
        help="a file of JSON lines, each with messages and tools (needs --against)",
    )
    parser.add_argument(
        "--against", metavar="CHECKPOINT", help="the checkpoint to compare with, a folder or a hub id (needs torch)"
    )
    parser.add_argument(
        "--windows",
        type=int,
        default=40,
        metavar="N",
        help="the text is cut into windows; read at most N (default: %(default)s)",
    )
    parser.add_argument(
        "--window-tokens",
        type=int,
        default=512,
        metavar="N",
        help="length of a window in tokens (default: %(default)s)",
    )
    add_threads(parser)
    add_engine(parser)
    parser.add_argument("--html", metavar="FILE", type=Path, help="also write an HTML page with the table and plots")
    parser.add_argument("--json", action="store_true", help="print only the line of JSON")


def run(args: argparse.Namespace) -> int:
    check_numbers(args)
    check_words(args)
    threads = args.threads or idle_cores()
    if args.calls:
        return run_calls(args, threads)
    if args.html:
        check_page(args.html)
    bundles = [Bundle.open(folder) for folder in args.bundles]
    windows = common_windows(bundles, args.text, args.window_tokens, args.windows, args.engine)
    reading = read_in_float(args.against, bundles, windows, threads) if args.against else None
    evaluated = [
        figures(bundle, windows, reading.meter() if reading else None, args.engine, threads) for bundle in bundles
    ]
    evaluation = Evaluation(
        text=args.text.name,
        windows=windows.count,
        window_tokens=windows.tokens,
        positions=windows.count * windows.scored,
        threads=threads,
        against=reading.name if reading else None,
        bundles=evaluated,
    )
    if args.html:
        write(args.html, page(evaluation))
    if not args.json:
        print(aligned(table(evaluation)))
    print(msgspec.json.encode(evaluation).decode())
    return 0


def check_numbers(args: argparse.Namespace) -> None:
    """Raises GemmaError for options that can not be run."""
    if args.windows < 1:
        raise GemmaError(f"--windows must be at least 1, not {args.windows}", "leave it out to read 40")
    if args.window_tokens < LEAST_WINDOW:
        raise GemmaError(f"--window-tokens must be at least {LEAST_WINDOW}, not {args.window_tokens}", "512 is usual")
    if args.threads < 0:
        raise GemmaError(f"--threads must be 0 or more, not {args.threads}", "0 takes the cores that are idle")


def check_words(args: argparse.Namespace) -> None:
    """Raises GemmaError for words that do not go together."""
    if (args.text is None) == (args.calls is None):
        raise GemmaError("eval needs either --text or --calls", "give one of the two")
    if args.calls and (args.html or not args.against):
        raise GemmaError(
            "--calls needs --against and cannot be combined with --html", "add --against CHECKPOINT, leave out --html"
        )


def run_calls(args: argparse.Namespace, threads: int) -> int:
    bundles = [Bundle.open(folder) for folder in args.bundles]
    reports = export_module("export.prove.call_fidelity", args.against).evaluate(
        args.against, bundles, args.calls, threads
    )
    named = {bundle.folder.resolve().name: report for bundle, report in zip(bundles, reports, strict=True)}
    if not args.json:
        for name, report in named.items():
            print(f"{name}: {report.line()}")
    print(msgspec.json.encode({"against": args.against, "calls": named}).decode())
    return 0


def read_text(path: Path) -> str:
    """Raises GemmaError if it can not be read, or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise GemmaError(f"--text {path}: {error.strerror or error}", "give a UTF-8 text file") from error
    except UnicodeDecodeError as error:
        raise GemmaError(f"--text {path} is not UTF-8: {error}", "convert it, for example with iconv") from error


def common_windows(bundles: list[Bundle], path: Path, tokens: int, limit: int, engine: str) -> Windows:
    """The same windows for all bundles.

    Raises GemmaError for a window over a model's context, a text shorter than a window, and bundles
    that read the text as different tokens.
    """
    for bundle in bundles:
        context = longest(bundle.manifest, engine)
        if tokens > context:
            raise GemmaError(
                f"--window-tokens {tokens} is over the context of {bundle.folder}, {context}",
                "ask for shorter windows",
            )
    text = read_text(path)
    first, *others = (text_windows(bundle, text, path, tokens, limit) for bundle in bundles)
    for bundle, windows in zip(bundles[1:], others, strict=True):
        if windows.ids.tolist() != first.ids.tolist():
            raise GemmaError(
                f"{bundle.folder} and {bundles[0].folder} read {path} as different tokens, and so do not compare",
                "evaluate bundles of different tokenizers one by one",
            )
    return first


def text_windows(bundle: Bundle, text: str, path: Path, tokens: int, limit: int) -> Windows:
    tokenizer = Tokenizer.of(bundle)
    ids = tokenizer.encode(text, bos=True)
    if len(ids) < tokens:
        raise GemmaError(
            f"--text {path} has only {len(ids)} tokens, but one window needs {tokens}",
            "give a longer text, or shorter windows with --window-tokens",
        )
    return cut(ids, tokenizer.bos, tokens, limit)


def read_in_float(checkpoint: str, bundles: list[Bundle], windows: Windows, threads: int) -> Any:
    return export_module("export.prove.divergence", checkpoint).read(checkpoint, bundles, windows, threads)


def export_module(name: str, checkpoint: str) -> Any:
    """A module of the export room, whose packages may not be installed."""
    return needs(name, "export", f"--against {checkpoint}: reading a checkpoint", ", or leave --against out")


def figures(bundle: Bundle, windows: Windows, meter: Meter | None, engine: str, threads: int) -> BundleQuality:
    """Raises GemmaError if the bundle does not run."""
    manifest = bundle.manifest
    decoder = open_engine(engine, bundle, threads)
    with Progress(f"scoring {manifest.recipe.name}", windows.count) as progress:
        perplexity = score(decoder, windows, meter.see if meter else ignore, progress.advance)
    size = sizes(manifest)
    return BundleQuality(
        bundle=bundle.folder.resolve().name,
        recipe=manifest.recipe.name,
        bytes=size["disk"],
        resident_bytes=size["resident"],
        perplexity=perplexity,
        divergence=meter.divergence() if meter else None,
    )


def aligned(rows: list[list[str]]) -> str:
    """Names to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        names = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*names, *numbers]).rstrip())
    return "\n".join(lines)
