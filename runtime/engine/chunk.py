"""How many tokens of a prompt one call reads."""

from __future__ import annotations

from collections.abc import Iterator

CHUNK = 256  # at most; bounds the memory of a prompt of any length, and more are no faster
LEAST = 32
SCORES = 2048 * CHUNK  # tokens of a call times the positions that they see: attention holds a score of each


def chunk_at(position: int, most: int = CHUNK) -> int:
    """Tokens of a call that begins at a position: `most`, and fewer where there is much to see."""
    tokens = most
    while tokens > LEAST and tokens * (position + tokens) > SCORES:
        tokens //= 2
    return tokens


def chunks(position: int, tokens: int, most: int = CHUNK) -> Iterator[slice]:
    """The calls that read `tokens` tokens from a position on, as slices of them; `most` tokens in each."""
    start = 0
    while start < tokens:
        stop = min(tokens, start + chunk_at(position + start, most))
        yield slice(start, stop)
        start = stop
