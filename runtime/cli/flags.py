"""Hints of the library in the words of the command line: `replace=True` becomes `--force`."""

from __future__ import annotations

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


def explained(error: GemmaError) -> str:
    """The message and the hint of an error, for somebody who types commands."""
    hint = error.hint
    for words, flag in FLAGS:
        hint = re.sub(words, flag, hint)
    return str(GemmaError(error.message, hint))
