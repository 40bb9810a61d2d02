"""What one call reads: tokens, and rows that stand in place of the embeddings of some of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Floats, Ids
from ..bundle.manifest import ModelFacts
from ..bundle.row_table import RowTable
from ..errors import ContextFull, RequestError
from .chunk import CHUNK, chunks

SOFT_ID = 0  # the token whose per-layer row a soft token has, as transformers does


@dataclass(frozen=True, eq=False)
class SoftTokens:
    """Rows (n, hidden) float32 of a picture or of sound, at ascending places (n,) int64 of a piece.

    A row goes into the model as it is: the factor of the embeddings is not for it.
    """

    places: Ids
    rows: Floats

    def between(self, start: int, stop: int) -> SoftTokens | None:
        """The soft tokens of a part of the piece; none if it has none."""
        inside = (self.places >= start) & (self.places < stop)
        return SoftTokens(self.places[inside] - start, self.rows[inside]) if inside.any() else None


@dataclass(frozen=True, eq=False)
class Piece:
    """The tokens of a call.

    ids: (tokens,) int64; an id at the place of a soft token is never looked up
    kept: how many of the last positions get logits and hidden states
    soft: what stands in place of embeddings
    groups: spans (start, stop) of the piece whose tokens see each other, also those that come later
    """

    ids: Ids
    kept: int = 1
    soft: SoftTokens | None = None
    groups: Sequence[tuple[int, int]] = ()

    @property
    def row_ids(self) -> Ids:
        """The ids whose rows are read, (tokens,): soft tokens have those of token 0."""
        if self.soft is None:
            return self.ids
        ids = self.ids.copy()
        ids[self.soft.places] = SOFT_ID
        return ids

    def part(self, start: int, stop: int, kept: int = 1) -> Piece:
        """Some neighbouring tokens of the piece.  Raises RequestError for a group that is only partly among them."""
        inside = [(first - start, last - start) for first, last in self.groups if start <= first and last <= stop]
        if len(inside) != sum(first < stop and last > start for first, last in self.groups):
            raise RequestError("a call would cut a group of tokens that see each other", "make the group shorter")
        soft = self.soft.between(start, stop) if self.soft else None
        return Piece(self.ids[start:stop], kept, soft, inside)

    def embeddings(self, table: RowTable) -> Floats:
        """What goes into the first layer, (tokens, hidden) float32."""
        rows = table.rows(self.row_ids)[:, 0]
        if self.soft is not None:
            rows[self.soft.places] = self.soft.rows
        return rows


def in_calls(piece: Piece, position: int, most: int = CHUNK) -> Iterator[Piece]:
    """The calls that read a piece from a position on.  What is kept must fit the last of them."""
    *before, last = chunks(position, len(piece.ids), most)
    for span in before:
        yield piece.part(span.start, span.stop)
    yield piece.part(last.start, last.stop, piece.kept)


def check_piece(piece: Piece, position: int, model: ModelFacts) -> None:
    """Raises ContextFull or RequestError for a piece that no engine here can read behind `position` tokens."""
    tokens = len(piece.ids)
    if position + tokens > model.context:
        raise ContextFull(
            f"{position + tokens} tokens are more than the artifact's context, {model.context}",
            "start a new conversation, or shorten the prompt",
        )
    if not 1 <= piece.kept <= tokens:
        raise RequestError(
            f"logits of {piece.kept} tokens were asked for, and the piece has {tokens}",
            "ask for at least one, and for no more",
        )
    if piece.groups:
        raise RequestError("this engine cannot let tokens see later ones", "leave the groups out")
    if piece.soft is not None:
        check_soft(piece.soft, tokens, model.hidden_size)


def check_soft(soft: SoftTokens, tokens: int, hidden: int) -> None:
    """Raises RequestError unless each place has a row of the model's width, and is in the piece."""
    places = soft.places
    if soft.rows.shape != (len(places), hidden):
        raise RequestError(
            f"soft tokens of shape {soft.rows.shape} for {len(places)} places", f"give a row of {hidden} for each place"
        )
    if len(places) and not (places[0] >= 0 and places[-1] < tokens and (np.diff(places) > 0).all()):
        raise RequestError(
            f"soft tokens at the places {places.tolist()!r:.40} of {tokens} tokens",
            "give ascending places of the piece",
        )
