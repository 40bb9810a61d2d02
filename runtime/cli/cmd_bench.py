"""`gemma-edge bench`: a table for people, the last line for machines."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from ..bundle.bundle import Bundle
from ..engine.engine import longest, planner
from ..engine.memory_plan import check_room
from ..errors import GemmaError
from ..machine.available_memory import available
from ..measure.bench import Figures, Settings, measure
from ..measure.bench_cache import cache_folder, cached, clean
from ..measure.bench_page import page, spread
from ..measure.bench_page import table as page_table
from ..measure.page import check_page, write
from ..needs import needs
from ..progress import Progress
from .flags import add_engine, add_threads

P = ParamSpec("P")
T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measure how fast a bundle runs on this machine, and how much memory it takes. The figures are "
        "medians of several repetitions, after one that is not counted.\n"
        "With --shape you need no checkpoint. The command makes a bundle of random weights in a released "
        "shape and keeps it in $XDG_CACHE_HOME/gemma-edge (by default ~/.cache/gemma-edge)."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "bundle", metavar="BUNDLE", type=Path, nargs="?", help="the folder that `gemma-edge export` wrote"
    )
    what.add_argument(
        "--shape",
        metavar="SHAPE",
        help="measure random weights in this shape, such as e2b or e4b (`gemma-edge synth --help` lists all)",
    )
    what.add_argument(
        "--cached", action="store_true", help="list the bundles that --shape has kept, and their sizes in GB"
    )
    what.add_argument("--clean", action="store_true", help="delete the bundles that --shape has kept")
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="with --shape, how weights are stored (default: the recipe that export would choose)",
    )
    add_threads(parser)
    parser.add_argument(
        "--prompt-tokens",
        type=int,
        default=512,
        metavar="N",
        help="length of the prompt in tokens (default: %(default)s)",
    )
    parser.add_argument(
        "--new-tokens", type=int, default=64, metavar="N", help="how many tokens to generate (default: %(default)s)"
    )
    parser.add_argument(
        "--context",
        default="0",
        metavar="N,...",
        help="how many tokens are read before the prompt; several numbers measure several times (default: 0)",
    )
    parser.add_argument(
        "--repeat", type=int, default=3, metavar="N", help="how many repetitions are measured (default: %(default)s)"
    )
    add_engine(parser)
    parser.add_argument("--html", metavar="FILE", type=Path, help="also write an HTML page with a table and plots")
    parser.add_argument("--json", action="store_true", help="print only the line of JSON")


def run(args: argparse.Namespace) -> int:
    if args.cached or args.clean:
        return tidy(remove=args.clean)
    contexts = numbers(args.context)
    settings = Settings(args.threads, args.prompt_tokens, args.new_tokens, contexts[0], args.repeat)
    check_numbers(settings)
    if args.html:
        check_page(args.html)
    folder = bundle_folder(args)
    check_context(settings, contexts[-1], Bundle.open(folder), args.engine, available())
    with Progress("measuring", len(contexts) * (settings.repeat + 1)) as progress:
        figures = measure(folder, settings, contexts, lambda: progress.advance(1), args.engine)
    if args.html:
        write(args.html, page(folder.name, figures))
    if not args.json:
        print(table(figures))
    print(msgspec.json.encode(figures).decode())
    return 0


def tidy(*, remove: bool) -> int:
    """Print what is in the cache folder, or empty it."""
    if remove:
        print(f"{clean() / 1e9:.1f} GB removed from {cache_folder()}")
        return 0
    for folder, size in cached():
        print(f"{size / 1e9:6.1f} GB  {folder}")
    return 0


def bundle_folder(args: argparse.Namespace) -> Path:
    """The bundle that was named, or one of generated weights."""
    if args.shape is None:
        if args.recipe is not None:
            raise GemmaError(f"--recipe {args.recipe} needs --shape: a bundle already has its recipe", "leave it out")
        folder: Path = args.bundle
        return folder
    return made_apart(args.shape, args.recipe)


def made_apart(shape: str, recipe: str | None) -> Path:
    """Make the bundle in a process of its own, so that its memory is not in the peak that is measured."""
    return apart(f"--shape {shape}", synth_bundle, shape, recipe)


def apart(work: str, call: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Call a function in another process.  Raises what it raises, and GemmaError if the system ended its `work`."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(call, *args, **options).result()
        except BrokenProcessPool as error:
            raise GemmaError(f"{work}: the system ended its process", "free some memory") from error


def synth_bundle(shape: str, recipe: str | None) -> Path:
    """Asked of the export room, whose packages may not be installed."""
    module = needs("export.synth_bundle", "export", f"--shape {shape}: making a bundle", ", or name a bundle")
    folder: Path = module.cached_bundle(shape, recipe)
    return folder


def numbers(words: str) -> list[int]:
    """Different contexts, from the shortest.  Raises GemmaError for what is no number from 0 up."""
    try:
        contexts = sorted({int(part) for part in words.split(",")})
    except ValueError as error:
        raise GemmaError(
            f"--context must be numbers with commas between them, not {words}", "for example 0,1024,8192"
        ) from error
    if contexts[0] < 0:
        raise GemmaError(f"--context must be 0 or more, not {words}", "for example 0,1024,8192")
    return contexts


def check_numbers(settings: Settings) -> None:
    """Raises GemmaError for settings that no bundle can be run with."""
    for name in ("prompt_tokens", "new_tokens", "repeat"):
        if getattr(settings, name) < 1:
            raise GemmaError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(settings, name)}")
    if settings.threads < 0:
        raise GemmaError(f"--threads must be 0 or more, not {settings.threads}")


def check_context(settings: Settings, context: int, bundle: Bundle, engine: str, room: int) -> None:
    """Raises GemmaError for more tokens than the model can read, or than `room` bytes of memory hold."""
    needed, most = context + settings.prompt_tokens + settings.new_tokens, longest(bundle.manifest, engine)
    if needed > most:
        raise GemmaError(f"this run needs {needed} tokens, but the model's context is {most}", "ask for fewer")
    plan = planner(bundle.manifest, engine)
    if plan:
        check_room(plan, most, needed, room)


def table(figures: Figures) -> str:
    s = figures.settings
    rows = [
        ("prefill", f"{figures.prefill_tok_s:.1f} tokens/s", spread(figures.prefill_spread)),
        ("decode", f"{figures.decode_tok_s:.1f} tokens/s", spread(figures.decode_spread)),
        ("time to first token", f"{figures.ttft_s:.3f} s", f"prompt of {s.prompt_tokens} tokens"),
        ("load", f"{figures.load_s:.2f} s", ""),
        ("peak memory", f"{figures.peak_rss_bytes / 1e6:.0f} MB", planned(figures)),
        ("reads of a step", f"{figures.contexts[0].read_gb_s:.2f} GB/s", limit(figures)),
        ("rows", f"{figures.flash_bytes_per_token / 1e3:.1f} kB/token", f"{figures.flash_faults_per_token:g} faults"),
        ("settings", f"{s.threads} threads", f"context {s.context}, {s.new_tokens} new tokens, {s.repeat} repetitions"),
    ]  # fmt: skip
    lines = [f"{name:21}{value:22}{note}".rstrip() for name, value, note in rows]
    if len(figures.contexts) > 1:
        lines += ["", *columns(page_table(figures))]
    return "\n".join(lines)


def columns(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def planned(figures: Figures) -> str:
    """Nothing for an engine without a memory plan."""
    most = max(at.planned_bytes for at in figures.contexts)
    return f"{most / 1e6:.0f} MB planned" if most else ""


def limit(figures: Figures) -> str:
    """How near to what the machine's memory gives."""
    share = figures.contexts[0].read_gb_s / figures.bandwidth_gb_s
    return f"{share:.0%} of the {figures.bandwidth_gb_s:.1f} GB/s that {figures.settings.threads} threads read here"
