"""The compact vocabulary: tokenizer.json as arrays that are mapped, not parsed.  FORMAT.md draws the bytes.

Applications tokenize with it.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError

MAGIC, VERSION = b"GEMVOCB1", 1
HEADER = struct.Struct("<8s8I")
NORMAL, BYTE, ADDED, CONTROL = range(4)
WHOLE, WORDS = range(2)
SPACE, MARK = " ", "▁"
DAMAGED = "export the bundle again"

Words = NDArray[np.uint32]


@dataclass(frozen=True)
class Vocabulary:
    """Arrays of a file.

    splitting: WHOLE or WORDS; offsets (pieces + 1) into text; types (pieces,)
    characters (n, 2): code point and id, ascending; byte_ids (256,); added: ids matched before anything else
    first (pieces + 1): merges whose left half is a piece; merges (n, 3): right half, rank, product
    """

    splitting: int
    offsets: Words
    types: NDArray[np.uint8]
    characters: Words
    byte_ids: Words
    added: Words
    first: Words
    merges: Words
    text: bytes

    @classmethod
    def open(cls, path: Path) -> Vocabulary:
        """Raises GemmaError unless all sizes, ids and offsets of the file agree."""
        raw = path.read_bytes()
        if len(raw) < HEADER.size or raw[:8] != MAGIC:
            raise BundleError(f"{path} is not a compact vocabulary", DAMAGED)
        version, pieces, characters, added, merges, text, splitting, _ = HEADER.unpack_from(raw)[1:]
        if version != VERSION:
            hint = "upgrade gemma-edge" if version > VERSION else DAMAGED
            raise BundleError(f"{path} has the vocabulary version {version}, but this gemma-edge reads {VERSION}", hint)
        padded = -(-pieces // 4) * 4
        words = (pieces + 1) + 2 * characters + 256 + added + (pieces + 1) + 3 * merges
        if len(raw) != HEADER.size + padded + 4 * words + text or splitting > WORDS:
            raise BundleError(
                f"{path} has {len(raw)} bytes, which is wrong for {pieces} pieces and {merges} merges", DAMAGED
            )
        at = HEADER.size

        def taken(count: int) -> Words:
            nonlocal at
            at += 4 * count
            return np.frombuffer(raw, np.uint32, count, at - 4 * count)

        offsets = taken(pieces + 1)
        types = np.frombuffer(raw, np.uint8, pieces, at)
        at += padded
        vocabulary = cls(
            splitting=splitting,
            offsets=offsets,
            types=types,
            characters=taken(2 * characters).reshape(-1, 2),
            byte_ids=taken(256),
            added=taken(added),
            first=taken(pieces + 1),
            merges=taken(3 * merges).reshape(-1, 3),
            text=raw[at:],
        )
        vocabulary.check(path)
        return vocabulary

    def check(self, path: Path) -> None:
        pieces = len(self.types)
        ids = (self.characters[:, 1], self.byte_ids, self.added, self.merges[:, 0], self.merges[:, 2])
        text = np.frombuffer(self.text, np.uint8)
        starts = self.offsets[self.offsets < len(text)]
        sound = (
            all(int(used.max(initial=0)) < max(pieces, 1) for used in ids)
            and rises_to(self.offsets, len(text))
            and rises_to(self.first, len(self.merges))
            and bool((self.types <= CONTROL).all())
            and bool((self.types[self.added] >= ADDED).all())
            and bool((np.diff(self.characters[:, 0].astype(np.int64)) > 0).all())
            and not bool((text[starts] & 0xC0 == 0x80).any())  # a piece begins inside a character
            and self.rights_rise()
        )
        try:
            self.text.decode()
        except UnicodeDecodeError:
            sound = False
        if not sound:
            raise BundleError(f"{path}: corrupt vocabulary: an id or an offset is out of range", DAMAGED)

    def rights_rise(self) -> bool:
        """Within the merges of a left half the right halves rise, each once."""
        left = np.repeat(np.arange(len(self.types), dtype=np.int64), np.diff(self.first.astype(np.int64)))
        return bool((np.diff((left << 32) | self.merges[:, 0]) > 0).all())

    def piece(self, token: int) -> str:
        return self.text[self.offsets[token] : self.offsets[token + 1]].decode()

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without a start token."""
        ids: list[int] = []
        for part, token in self.parts(text):
            if token is not None:
                ids.append(token)
                continue
            for word in split(part.replace(SPACE, MARK), self.splitting):
                ids += self.merged([token for character in word for token in self.symbols(character)])
        return ids

    def parts(self, text: str) -> Iterator[tuple[str, int | None]]:
        """Text between added tokens, and these: at each place the longest that there is."""
        start = at = 0
        while at < len(text):
            length = next((n for n in self.lengths.get(text[at], ()) if text[at : at + n] in self.by_text), 0)
            if not length:
                at += 1
                continue
            yield text[start:at], None
            yield "", self.by_text[text[at : at + length]]
            start = at = at + length
        yield text[start:], None

    @cached_property
    def by_text(self) -> dict[str, int]:
        return {self.piece(token): token for token in self.added.tolist()}

    @cached_property
    def lengths(self) -> dict[str, list[int]]:
        """Lengths of the added tokens that begin with a character, the longest first."""
        lengths: dict[str, set[int]] = {}
        for text in self.by_text:
            lengths.setdefault(text[:1], set()).add(len(text))
        return {character: sorted(several, reverse=True) for character, several in lengths.items()}

    @cached_property
    def by_character(self) -> dict[int, int]:
        return dict(self.characters.tolist())

    def symbols(self, character: str) -> list[int]:
        token = self.by_character.get(ord(character))
        return [token] if token is not None else [int(self.byte_ids[byte]) for byte in character.encode()]

    def merge(self, left: int, right: int) -> tuple[int, int] | None:
        """Rank and product of two neighbours."""
        begin, end = int(self.first[left]), int(self.first[left + 1])
        at = begin + int(np.searchsorted(self.merges[begin:end, 0], right))
        if at == end or self.merges[at, 0] != right:
            return None
        return int(self.merges[at, 1]), int(self.merges[at, 2])

    def merged(self, symbols: Sequence[int]) -> list[int]:
        """Byte-pair encoding: always the merge of the lowest rank, of equals the leftmost."""
        tokens = list(symbols)
        after = [*range(1, len(tokens)), -1]
        before = list(range(-1, len(tokens) - 1))
        queue: list[tuple[int, int, int, int, int]] = []

        def offer(at: int) -> None:
            following = after[at]
            merge = self.merge(tokens[at], tokens[following]) if following >= 0 else None
            if merge:
                rank, product = merge
                heapq.heappush(queue, (rank, at, tokens[at], tokens[following], product))

        for at in range(len(tokens)):
            offer(at)
        while queue:
            _, at, left, right, product = heapq.heappop(queue)
            following = after[at]
            if following < 0 or (tokens[at], tokens[following]) != (left, right):
                continue  # one of the two has been merged since
            tokens[at], tokens[following] = product, -1
            after[at] = after[following]
            if after[at] >= 0:
                before[after[at]] = at
            offer(at)
            if before[at] >= 0:
                offer(before[at])
        return [token for token in tokens if token >= 0]


def rises_to(values: Words, end: int) -> bool:
    return int(values[0]) == 0 and int(values[-1]) == end and bool((np.diff(values.astype(np.int64)) >= 0).all())


def split(text: str, splitting: int) -> Iterator[str]:
    """Pieces of a normalized text between which nothing is merged."""
    if splitting == WHOLE:
        if text:
            yield text
        return
    start = 0
    while start < len(text):
        end = word_end(text, start)
        yield text[start:end]
        start = end


def word_end(text: str, at: int) -> int:
    """A break; a mark and what is neither; or marks."""
    if text[at] == "\n":
        return at + 1
    start = at + (text[at] == MARK)
    stop = run(text, start, lambda character: character not in (MARK, "\n"))
    return stop if stop > start else run(text, at, lambda character: character == MARK)


def run(text: str, at: int, wanted: Callable[[str], bool]) -> int:
    while at < len(text) and wanted(text[at]):
        at += 1
    return at
