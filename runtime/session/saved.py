"""A session as one file: its tokens, the rows of its caches, and the ends of its turns (FORMAT.md, "Saved sessions").

Nothing in the file is trusted: its size follows from the manifest and a few numbers, and its last
bytes are a hash of the others.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..atomically import atomically
from ..bundle.bundle import MANIFEST, Bundle, sha256
from ..bundle.manifest import Cache, ModelFacts
from ..engine.cache import SLACK, TURNS, CacheState, KVCache, Rows, Saved
from ..engine.chunk import CHUNK
from ..errors import ContextFull, GemmaError, RequestError

MAGIC, VERSION = b"GEMSESS1", 2
HEADER = struct.Struct("<8sIII32s")  # magic, version, tokens, rows of a window, hash of bundle.json
COUNT = struct.Struct("<I")  # of ends of turns; a file of version 1 has neither this number nor ends
END = struct.Struct("<II")  # tokens up to the end of a turn, rows of a window there
DIGEST = 32
DAMAGED = "the copy may be incomplete or damaged; start a new session"

Shape = tuple[tuple[int, ...], str]
Pair = tuple[Rows, Rows]  # keys and values (1, kv_heads, rows, head_dim)


@dataclass(frozen=True)
class SavedSession:
    """ids: tokens that were read; pairs: keys and values of every cache; ends: of turns, to come back to."""

    ids: list[int]
    pairs: list[Pair]
    ends: list[CacheState]


def write_session(
    path: Path, bundle: Bundle, ids: Sequence[int], ends: Sequence[CacheState], caches: Sequence[KVCache]
) -> None:
    """Write all of the file or none.  All caches hold the tokens `ids`."""
    digest = hashlib.sha256()
    with atomically(path) as part, part.open("wb") as file:
        for piece in pieces(bundle, ids, ends, caches):
            digest.update(piece)
            file.write(piece)
        file.write(digest.digest())


def pieces(
    bundle: Bundle, ids: Sequence[int], ends: Sequence[CacheState], caches: Sequence[KVCache]
) -> Iterator[bytes]:
    """What the file holds, an array at a time: a long session is not held twice."""
    windows = [cache.length for cache in caches if cache.spec.kind == "sliding"]
    key = bytes.fromhex(sha256(bundle.folder / MANIFEST))
    yield HEADER.pack(MAGIC, VERSION, len(ids), max(windows, default=0), key)
    yield COUNT.pack(len(ends))
    for end in ends:
        yield END.pack(end.position, max((len_of(saved) for saved in end.caches), default=0))
    yield np.array(ids, "<i4").tobytes()
    for cache in caches:
        for array in (cache.key, cache.value):
            yield array[:, :, : cache.length].tobytes()
    for saved in (saved for end in ends for saved in end.caches):
        for copied in (saved.key, saved.value):
            yield b"" if copied is None else copied.tobytes()


def len_of(saved: Saved) -> int:
    """Rows that are copied: those of a window."""
    return 0 if saved.key is None else saved.length


class HashedFile:
    """Reads what is there, and hashes it."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file, self._digest = path, file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        raw = self._file.read(size)
        if len(raw) != size:
            raise GemmaError(f"{self._path} is not a saved session: it has {self._file.tell()} bytes", DAMAGED)
        self._digest.update(raw)
        return raw

    def array(self, shape: Shape) -> NDArray[Any]:
        return np.frombuffer(self.read(nbytes(shape)), shape[1]).reshape(shape[0])

    def pairs(self, shapes: Sequence[Shape]) -> list[Pair]:
        return [(self.array(shape), self.array(shape)) for shape in shapes]

    def check_size(self, rest: int) -> None:
        expected, size = self._file.tell() + rest + DIGEST, os.fstat(self._file.fileno()).st_size
        if size != expected:
            raise GemmaError(f"{self._path} has {size} bytes, but {expected} were saved", DAMAGED)

    def check_hash(self) -> None:
        if self._file.read(DIGEST) != self._digest.digest():
            raise GemmaError(f"{self._path}: its hash does not match its contents", DAMAGED)


def read_session(path: Path, bundle: Bundle, context: int) -> SavedSession:
    """Raises GemmaError unless the file is whole, of this bundle, and not longer than `context`."""
    caches = bundle.manifest.model.caches
    windows = [cache for cache in caches if cache.kind == "sliding"]
    with path.open("rb") as opened:
        file = HashedFile(path, opened)
        version, tokens, window = read_header(path, file.read(HEADER.size), bundle, context)
        turns = read_turns(path, file, bundle.manifest.model, tokens) if version > 1 else []
        now = [shape(cache, tokens, window) for cache in caches]
        then = [[shape(cache, position, rows) for cache in windows] for position, rows in turns]
        file.check_size(4 * tokens + 2 * sum(map(nbytes, [*now, *itertools.chain(*then)])))
        ids = file.array(((tokens,), "<i4"))
        pairs = file.pairs(now)
        ends = [state(caches, turn[0], file.pairs(shapes)) for turn, shapes in zip(turns, then, strict=True)]
        file.check_hash()
    if tokens and not (ids.min() >= 0 and ids.max() < bundle.manifest.model.vocab_size):
        raise GemmaError(f"{path} has a token that the bundle does not have", DAMAGED)
    return SavedSession([int(token) for token in ids], pairs, ends)


def read_header(path: Path, head: bytes, bundle: Bundle, context: int) -> tuple[int, int, int]:
    """Version, tokens, and rows of every window."""
    magic, version, tokens, window, key = HEADER.unpack(head)
    if magic != MAGIC:
        raise GemmaError(f"{path} is not a saved session", "give a file that Session.save wrote")
    if not 1 <= version <= VERSION:
        raise GemmaError(
            f"{path} has the session format {version}, but this gemma-edge reads 1 to {VERSION}",
            "start a new session",
        )
    if key != bytes.fromhex(sha256(bundle.folder / MANIFEST)):
        raise RequestError(
            f"{path} was saved with another bundle than {bundle.folder}", "open the bundle it was saved with"
        )
    if tokens > context:
        raise ContextFull(
            f"{path} has {tokens} tokens, but the context is {context}", "open the session with a longer context"
        )
    check_window(path, bundle.manifest.model, tokens, window)
    return version, tokens, window


def read_turns(path: Path, file: HashedFile, model: ModelFacts, tokens: int) -> list[tuple[int, int]]:
    """Tokens up to the end of every turn, and rows of a window there."""
    (count,) = COUNT.unpack(file.read(COUNT.size))
    if count > TURNS:
        raise GemmaError(f"{path} has {count} ends of turns, and the limit is {TURNS}", DAMAGED)
    turns = [END.unpack(file.read(END.size)) for _ in range(count)]
    before = 0
    for position, rows in turns:
        if not before < position <= tokens:
            raise GemmaError(
                f"{path}: a turn ends at token {position}, which is not between {before} and {tokens}", DAMAGED
            )
        check_window(path, model, position, rows)
        before = position
    return turns


def check_window(path: Path, model: ModelFacts, tokens: int, window: int) -> None:
    """Raises GemmaError unless a window of so many rows can be there after so many tokens."""
    sliding = any(cache.kind == "sliding" for cache in model.caches)
    least = min(tokens, model.window - 1) if sliding else 0
    most = min(tokens, model.window + max(CHUNK, SLACK)) if sliding else 0
    if not least <= window <= most:
        raise GemmaError(f"{path} has windows of {window} rows, not of {least} to {most}", DAMAGED)


def shape(cache: Cache, tokens: int, window: int) -> Shape:
    rows = window if cache.kind == "sliding" else tokens
    return (1, cache.kv_heads, rows, cache.head_dim), {"float32": "<f4", "int8": "|i1"}[cache.dtype]


def nbytes(shape: Shape) -> int:
    return int(np.prod(shape[0], dtype=np.int64)) * np.dtype(shape[1]).itemsize


def state(caches: Sequence[Cache], position: int, windows: Sequence[Pair]) -> CacheState:
    """The end of a turn: a full layer has its rows still, a sliding one gets them back."""
    pairs = iter(windows)
    return CacheState(
        position, tuple(restored(next(pairs)) if cache.kind == "sliding" else Saved(position) for cache in caches)
    )


def restored(pair: Pair) -> Saved:
    key, value = pair
    return Saved(key.shape[2], key, value)
