"""`gemma-edge bench`: a table for people, the last line for machines."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from .bench import Figures, Settings, measure
from .bundle import Bundle
from .errors import GemmaError
from .progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Measure a bundle on this machine: medians over the repetitions, after one that warms up."
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="folder that `gemma-edge export` wrote")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="threads (default: the cores this process may use)"
    )
    parser.add_argument(
        "--prompt-tokens", type=int, default=512, metavar="N", help="tokens of the prompt (default: %(default)s)"
    )
    parser.add_argument(
        "--new-tokens", type=int, default=64, metavar="N", help="tokens to decode (default: %(default)s)"
    )
    parser.add_argument(
        "--context", type=int, default=0, metavar="N", help="tokens read before the prompt (default: %(default)s)"
    )
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the JSON line only")


def run(args: argparse.Namespace) -> int:
    settings = Settings(args.threads, args.prompt_tokens, args.new_tokens, args.context, args.repeat)
    check(settings, Bundle.open(args.bundle))
    with Progress("measuring", settings.repeat + 1) as progress:
        figures = measure(args.bundle, settings, lambda: progress.advance(1))
    if not args.json:
        print(table(figures))
    print(msgspec.json.encode(figures).decode())
    return 0


def check(settings: Settings, bundle: Bundle) -> None:
    """Raises GemmaError for settings that can not be run."""
    for name in ("prompt_tokens", "new_tokens", "repeat"):
        if getattr(settings, name) < 1:
            raise GemmaError(f"--{name.replace('_', '-')} {getattr(settings, name)}: not a number from 1 up")
    if settings.context < 0 or settings.threads < 0:
        raise GemmaError(f"--context {settings.context}, --threads {settings.threads}: not numbers from 0 up")
    needed = settings.context + settings.prompt_tokens + settings.new_tokens
    if needed > bundle.manifest.model.context:
        raise GemmaError(f"{needed} tokens: the model's context is {bundle.manifest.model.context}", "ask for fewer")


def table(figures: Figures) -> str:
    s = figures.settings
    rows = [
        ("prefill", f"{figures.prefill_tok_s:.1f} tokens/s", spread(figures.prefill_spread)),
        ("decode", f"{figures.decode_tok_s:.1f} tokens/s", spread(figures.decode_spread)),
        ("time to first token", f"{figures.ttft_s:.3f} s", f"prompt of {s.prompt_tokens} tokens"),
        ("load", f"{figures.load_s:.2f} s", ""),
        ("peak memory", f"{figures.peak_rss_bytes / 1e6:.0f} MB", "resident, the whole process"),
        ("rows", f"{figures.flash_bytes_per_token / 1e3:.1f} kB/token", f"{figures.flash_faults_per_token:g} faults"),
        ("settings", f"{s.threads} threads", f"context {s.context}, {s.new_tokens} new tokens, {s.repeat} repetitions"),
    ]  # fmt: skip
    return "\n".join(f"{name:21}{value:22}{note}".rstrip() for name, value, note in rows)


def spread(least_most: tuple[float, float]) -> str:
    return f"{least_most[0]:.1f} to {least_most[1]:.1f}"
