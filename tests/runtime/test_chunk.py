"""Calls that read a prompt: all of it, in order, and bounded in what attention holds."""

import pytest

from runtime.engine.chunk import CHUNK, LEAST, SCORES, chunk_at, chunks


@pytest.mark.parametrize(
    ("position", "tokens"), [(0, CHUNK), (1792, CHUNK), (1793, 128), (3969, 64), (8129, 32), (1 << 20, LEAST)]
)
def test_less_is_read_where_there_is_more_to_see(position, tokens):
    assert chunk_at(position) == tokens
    assert tokens == LEAST or tokens * (position + tokens) <= SCORES


@pytest.mark.parametrize("position", [0, 5, 1700, 5000])
@pytest.mark.parametrize("tokens", [0, 1, 255, 256, 257, 3000])
def test_every_token_is_read_once(position, tokens):
    read = [index for piece in chunks(position, tokens) for index in range(tokens)[piece]]
    assert read == list(range(tokens))
    assert all(piece.stop - piece.start <= chunk_at(position + piece.start) for piece in chunks(position, tokens))
