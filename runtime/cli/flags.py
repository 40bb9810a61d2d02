"""Flags that several commands have, and hints of the library in their words: `replace=True` becomes `--force`."""

from __future__ import annotations

import argparse
import re

from ..errors import GemmaError

# What a hint tells a Python program to pass, and the flag that passes it.
FLAGS = (
    (r"replace=True", "--force"),
    (r"accept_loss=True", "--accept-loss"),
    (r"targets=\['([\w-]+)'\]", r"--to \1"),
    (r"(engine|recipe)='([\w-]+)'", r"--\1 \2"),
    (r"another destination", "another -o"),
    (r"a raw prompt", "--raw"),
)


def add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="number of threads (default: as many as cores are idle)"
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    from ..engine.engine import DEFAULT, ENGINES  # and with it onnxruntime, which an export has no room for

    parser.add_argument(
        "--engine", choices=ENGINES, default=DEFAULT, help="the engine that runs the bundle (default: %(default)s)"
    )


def add_context(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--context",
        type=int,
        default=0,
        metavar="N",
        help="room for prompts and answers, in tokens (default: the model's context, or less if memory is short)",
    )


def explained(error: GemmaError) -> str:
    """The message and the hint of an error, for somebody who types commands."""
    hint = error.hint
    for words, flag in FLAGS:
        hint = re.sub(words, flag, hint)
    return str(GemmaError(error.message, hint))
