"""A session as one file: its tokens, and the rows of its caches (FORMAT.md, "Saved sessions").

Nothing in the file is trusted: its size follows from the manifest and a few numbers, and its last
bytes are a hash of the others.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .bundle import MANIFEST, Bundle, sha256
from .cache import SLACK, Rows
from .chunk import CHUNK
from .decoder import Decoder
from .errors import GemmaError
from .manifest import Cache

MAGIC, VERSION = b"GEMSESS1", 1
HEADER = struct.Struct("<8sIII32s")  # magic, version, tokens, rows of a window, hash of bundle.json
DIGEST = 32
DAMAGED = "the copy may be incomplete or damaged; start a new session"


def write_session(path: Path, bundle: Bundle, ids: Sequence[int], decoder: Decoder) -> None:
    """Raises GemmaError for a session in the middle of an answer that was given up."""
    if len(ids) != decoder.position:
        raise GemmaError("the session was interrupted while it read", "ask it something first, then save it")
    windows = {cache.length for cache in decoder.caches if cache.spec.kind == "sliding"} or {0}
    key = bytes.fromhex(sha256(bundle.folder / MANIFEST))
    header = HEADER.pack(MAGIC, VERSION, len(ids), max(windows), key)
    part = path.with_name(f".{path.name}.part")
    digest = hashlib.sha256()
    with part.open("wb") as file:
        for piece in pieces(header, ids, decoder):
            digest.update(piece)
            file.write(piece)
        file.write(digest.digest())
    os.replace(part, path)


def pieces(header: bytes, ids: Sequence[int], decoder: Decoder) -> Iterator[bytes]:
    """What the file holds, an array at a time: a long session is not held twice."""
    yield header
    yield np.array(ids, "<i4").tobytes()
    for cache in decoder.caches:
        for array in (cache.key, cache.value):
            yield array[:, :, : cache.length].tobytes()


def read_session(path: Path, bundle: Bundle, context: int) -> tuple[list[int], list[tuple[Rows, Rows]]]:
    """Ids, and keys and values (1, kv_heads, rows, head_dim) of every cache.

    Raises GemmaError unless the file is whole, of this bundle, and not longer than `context`.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(HEADER.size)
        tokens, window = check_header(path, head, bundle, context)
        shapes = [shape(cache, tokens, window) for cache in bundle.manifest.model.caches]
        expected = HEADER.size + 4 * tokens + sum(2 * nbytes(*one) for one in shapes) + DIGEST
        if size != expected:
            raise GemmaError(f"{path}: {size} bytes, {expected} were saved", DAMAGED)
        digest = hashlib.sha256(head)
        ids = array_of(file, digest, (tokens,), "<i4")
        arrays = [(array_of(file, digest, *one), array_of(file, digest, *one)) for one in shapes]
        if file.read(DIGEST) != digest.digest():
            raise GemmaError(f"{path}: its hash does not hold", DAMAGED)
    if tokens and not (ids.min() >= 0 and ids.max() < bundle.manifest.model.vocab_size):
        raise GemmaError(f"{path}: a token that the bundle does not have", DAMAGED)
    return [int(token) for token in ids], arrays


def check_header(path: Path, head: bytes, bundle: Bundle, context: int) -> tuple[int, int]:
    """Tokens, and rows of every window."""
    if len(head) < HEADER.size or head[:8] != MAGIC:
        raise GemmaError(f"{path}: not a saved session", "give a file that Session.save wrote")
    _, version, tokens, window, key = HEADER.unpack(head)
    if version != VERSION:
        raise GemmaError(f"{path}: a session of format {version}, this gemma-edge reads {VERSION}", "start a new one")
    if key != bytes.fromhex(sha256(bundle.folder / MANIFEST)):
        raise GemmaError(
            f"{path}: a session of another bundle than {bundle.folder}", "open the bundle it was saved with"
        )
    if tokens > context:
        raise GemmaError(f"{path}: {tokens} tokens, the context is {context}", "open the session with a longer context")
    model = bundle.manifest.model
    sliding = any(cache.kind == "sliding" for cache in model.caches)
    least = min(tokens, model.window - 1) if sliding else 0
    most = min(tokens, model.window + max(CHUNK, SLACK)) if sliding else 0
    if not least <= window <= most:
        raise GemmaError(f"{path}: windows of {window} rows, not {least} to {most}", DAMAGED)
    return tokens, window


def shape(cache: Cache, tokens: int, window: int) -> tuple[tuple[int, ...], str]:
    rows = window if cache.kind == "sliding" else tokens
    return (1, cache.kv_heads, rows, cache.head_dim), {"float32": "<f4", "int8": "|i1"}[cache.dtype]


def nbytes(shape: tuple[int, ...], dtype: str) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def array_of(file: BinaryIO, digest: hashlib._Hash, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    raw = file.read(nbytes(shape, dtype))
    digest.update(raw)
    return np.frombuffer(raw, dtype).reshape(shape)
