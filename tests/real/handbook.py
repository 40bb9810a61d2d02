"""English prose to score: the Debian Administrator's Handbook, as one paragraph a line.

    python tests/real/handbook.py handbook.txt

Downloads the Debian package debian-handbook (GPL-2+ or CC-BY-SA-3.0) with apt-get.  Published perplexities
of this text hold only for the very same text, so its hash is checked.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path

PACKAGE = "debian-handbook"
PAGES = f"usr/share/doc/{PACKAGE}/html/en-US"
SHORTEST = 60  # characters; less is a heading, a menu or a caption
SHA256 = "26178ce55913549bf924f76ca914224638427456e055944dcd4a5c2369120f34"

BREAKS = frozenset(("p", "li", "h1", "h2", "h3", "h4", "h5", "div", "tr", "dt", "dd", "blockquote", "pre", "br"))
NOT_PROSE = frozenset(("script", "style", "head", "pre", "nav"))


class Prose(HTMLParser):
    """Collects the text between tags that begin or end a paragraph."""

    def __init__(self) -> None:
        super().__init__()
        self.paragraphs = [""]
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in NOT_PROSE
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in NOT_PROSE and self._hidden > 0
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.paragraphs[-1] += data

    def _break(self, tag: str) -> None:
        if tag in BREAKS:
            self.paragraphs.append("")


def prose(page: str) -> list[str]:
    parser = Prose()
    parser.feed(page)
    lines = (re.sub(r"\s+", " ", paragraph).strip() for paragraph in parser.paragraphs)
    return [line for line in lines if len(line) > SHORTEST]


def text(pages: Path) -> str:
    """All chapters, in the order of their file names."""
    files = (path for path in sorted(pages.glob("*.html")) if "index" not in path.name)
    return "".join("\n".join(prose(path.read_text(encoding="utf-8"))) + "\n" for path in files)


def unpack(folder: Path, *packages: str) -> None:
    """Download Debian packages and unpack them.  Raises OSError or CalledProcessError if one cannot be had."""
    subprocess.run(["apt-get", "download", "-qq", *packages], cwd=folder, check=True)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="The Debian Administrator's Handbook as plain text.")
    parser.add_argument("output", metavar="FILE", type=Path, help="where to write it")
    parser.add_argument("--pages", type=Path, metavar="FOLDER", help="HTML pages that are there already")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            if not args.pages:
                unpack(Path(folder), PACKAGE)
            made = text(args.pages or Path(folder) / PAGES).encode()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"error: the Debian package {PACKAGE} cannot be had: {error}", file=sys.stderr)
            print("hint: run `apt-get update` on a Debian, or name its HTML pages with --pages", file=sys.stderr)
            return 1
    found = hashlib.sha256(made).hexdigest()
    if found != SHA256:
        print(f"error: the text's SHA-256 is {found[:16]}…, not {SHA256[:16]}…", file=sys.stderr)
        print("hint: the published perplexities are of the handbook of Debian 12", file=sys.stderr)
        return 1
    args.output.write_bytes(made)
    print(f"{args.output}: {len(made)} bytes, {len(made.split())} words")
    return 0


if __name__ == "__main__":
    sys.exit(main())
