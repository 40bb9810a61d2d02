"""One page of HTML with a table and plots, that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from ..atomically import atomically
from ..errors import GemmaError, RequestError

STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #8884 }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left }
svg { max-width: 100%; height: auto }
svg text { font: 12px system-ui, sans-serif; fill: currentColor }
"""


def document(
    command: str, heading: str, said: str, rows: Sequence[Sequence[str]], drawings: Iterable[tuple[str, str]]
) -> str:
    """Make the page of a command: what was measured and how, a table with titles, and (title, SVG) plots."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        f"<title>gemma-edge {command}: {escape(heading)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(heading)}</h1>",
        f"<p>{escape(said)}</p>",
        f'<div class="wide">{html_table(rows)}</div>',
        *(f"<h2>{escape(title)}</h2>\n{drawing}" for title, drawing in drawings),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def html_table(rows: Sequence[Sequence[str]]) -> str:
    titles, *others = rows
    head = "".join(f"<th>{escape(cell)}</th>" for cell in titles)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in others)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def check_page(path: Path) -> None:
    """Raises GemmaError, before the long part, for a page that has no place."""
    if path.is_dir():
        raise RequestError(f"{path} is a folder", "give the name of a file")
    if not path.parent.is_dir():
        raise RequestError(
            f"{path}: there is no folder {path.parent}", "create the folder first, or choose another place"
        )


def write(path: Path, text: str) -> None:
    """Write all of a page or none.  Raises GemmaError where the disk refuses."""
    try:
        with atomically(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise GemmaError(f"{path} cannot be written: {error.strerror or error}", "choose another place") from error
