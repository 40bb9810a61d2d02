"""Whether a compact vocabulary means what tokenizer.json means: both must read lines that are hard to read alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer as Pieces

from ..bundle.splitmix import SplitMix64
from ..bundle.vocabulary import DAMAGED, MARK, SPACE, Vocabulary
from ..errors import BundleError

LINES_CHECKED = 300
AWKWARD = (
    "", " ", "  ", "\t", "\n\n\n", "a  b   c     d", " x", "x ", "▁▁ ▁", "\r\n\r\n", "é e\u0301 ﬁ",
    "日本語のテキスト", "Привет, мир!", "مرحبا", "\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd \U0001f1f3\U0001f1f4",
    "\u200b\ufeff\u00a0", "\x00\x1f\x7f", "\U0010ffff\ue000", "<0x41><bos><|turn>user", "<|turn>model\n<turn|>",
    "<unused7>", "for (int i = 0; i < 10; ++i) {\n\treturn a[i] != '\\0';\n}", "3.14159e-10 0xDEADBEEF 1,000,000",
    " " * 70 + "end", "\n" * 40, "don't can't I'd've", "https://example.org/a?b=c&d=%20#e", "ab" * 60, "a" * 33,
)  # fmt: skip


def check_equal(vocabulary: Vocabulary, pieces: Pieces, path: Path) -> int:
    """Count the lines that both read alike.  Raises BundleError for the first that they read in two ways."""
    lines = [*AWKWARD, *drawn_lines(vocabulary)]
    for line in lines:
        expected = pieces.encode(line, add_special_tokens=False).ids
        if vocabulary.encode(line) != expected:
            raise BundleError(f"{path}: {line!r:.60} gets other tokens than from tokenizer.json", DAMAGED)
    return len(lines)


def drawn_lines(vocabulary: Vocabulary) -> Iterator[str]:
    """Draw lines of pieces side by side, which sets merges against each other."""
    draw = SplitMix64(0)
    pieces = len(vocabulary.types)
    for _ in range(LINES_CHECKED if pieces else 0):
        chosen = [int(draw.uniform() * pieces) for _ in range(1 + int(draw.uniform() * 12))]
        yield "".join(vocabulary.piece(token) for token in chosen).replace(MARK, SPACE)
