"""Tags of a chat template that change nothing of what it renders.

`generation` marks for training what the model wrote; transformers renders its body as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

OPENING = re.compile(r"\{[%#{]")
RAW = re.compile(r"\{%[-+]?\s*raw\s*-?%\}")
END_RAW = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
GENERATION = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")
PIECE = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|.""", re.DOTALL)


def without_generation(template: str) -> str:
    """`generation` as `if true`, with the same signs, so that the same blanks go; for a text that jinja2 can lex."""
    parts, at = [], 0
    for start in block_tags(template):
        tag = GENERATION.match(template, start)
        if tag:
            words = "endif" if tag[2] else "if true"
            parts += [template[at:start], "{%", tag[1], f" {words} ", tag[3], "%}"]
            at = tag.end()
    return "".join([*parts, template[at:]])


def block_tags(template: str) -> Iterator[int]:
    """Return where block tags begin; not those that are text: in comments, in raw blocks, in strings."""
    at = 0
    while opening := OPENING.search(template, at):
        start, raw = opening.start(), RAW.match(template, opening.start())
        if raw:
            at = ends(END_RAW.search(template, raw.end()), template)
        elif opening[0] == "{#":
            at = template.find("#}", start + 2) + 2
        else:
            if opening[0] == "{%":
                yield start
            at = end_of_tag(template, opening.end(), "%}" if opening[0] == "{%" else "}}")


def ends(tag: re.Match[str] | None, template: str) -> int:
    return tag.end() if tag else len(template)


def end_of_tag(template: str, at: int, end: str) -> int:
    """Behind the end of a tag that `at` is inside of; brackets may hold the same characters."""
    depth = 0
    while at < len(template):
        if depth == 0 and template.startswith(end, at):
            return at + len(end)
        depth += (template[at] in "([{") - (template[at] in ")]}")
        piece = PIECE.match(template, at)
        at = ends(piece, template)
    return at
