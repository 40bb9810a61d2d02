"""Token and per-layer embeddings to row files that stay on flash, written in a stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from quantize.affine import Floats, Loss, quantize
from quantize.recipe import Recipe
from quantize.scheme import Scheme
from runtime.errors import GemmaError
from runtime.manifest import Table
from runtime.row_table import RowFormat

from .checkpoint import Checkpoint
from .config import GemmaConfig

PIECE_BYTES = 32 << 20


@dataclass(frozen=True)
class Rows:
    """A table of the checkpoint that becomes a row file."""

    name: str  # in the manifest; "rows." + name is matched with a recipe's pattern
    tensor: str
    layers: int
    dim: int
    multiplier: float

    @property
    def file(self) -> str:
        return f"tables/{self.name}.rows"


def row_tables(config: GemmaConfig) -> list[Rows]:
    found = [Rows("tokens", "embed_tokens.weight", 1, config.hidden, config.embedding_multiplier)]
    if config.per_layer_dim:
        layers, dim = len(config.layers), config.per_layer_dim
        found.append(Rows("per_layer", "embed_tokens_per_layer.weight", layers, dim, config.per_layer_multiplier))
    return found


def row_format(checkpoint: Checkpoint, rows: Rows, recipe: Recipe) -> RowFormat:
    """Floats keep the checkpoint's bfloat16, so that a float bundle holds the same values.

    Raises GemmaError for blocks that a row file can not tell: it says how many, and divides evenly.
    """
    scheme, vocab = recipe.scheme(f"rows.{rows.name}"), checkpoint.config.vocab
    if scheme.is_float:
        bits = 16 if checkpoint.entries[rows.tensor].dtype == "BF16" else 32
        return RowFormat(vocab, rows.layers, rows.dim, bits, 0)
    form = RowFormat(vocab, rows.layers, rows.dim, scheme.bits, scheme.groups(rows.dim))
    if form.width != scheme.width(rows.dim):
        raise GemmaError(
            f"rows.{rows.name}: {rows.dim} values do not divide into blocks of {scheme.block}", "choose another recipe"
        )
    return form


def split_rows(
    checkpoint: Checkpoint, recipe: Recipe, folder: Path, progress: Callable[[float], None] = lambda done: None
) -> tuple[dict[str, Table], dict[str, Loss]]:
    """Write the row files below `folder`; their entries for the manifest, and the loss by table."""
    (folder / "tables").mkdir()
    tables, losses = {}, {}
    for rows in row_tables(checkpoint.config):
        form = row_format(checkpoint, rows, recipe)
        scheme = recipe.scheme(f"rows.{rows.name}")
        losses[f"rows.{rows.name}"] = write_rows(checkpoint, rows, form, scheme, folder / rows.file, progress)
        tables[rows.name] = Table(file=rows.file, multiplier=rows.multiplier)
    return tables, losses


def write_rows(
    checkpoint: Checkpoint, rows: Rows, form: RowFormat, scheme: Scheme, path: Path, progress: Callable[[float], None]
) -> Loss:
    width = rows.layers * rows.dim
    step = max(1, PIECE_BYTES // (4 * width))
    total = Loss()
    with path.open("wb") as file:
        file.write(form.header())
        for piece in checkpoint.read_rows(rows.tensor, range(form.rows), step):
            encoded, loss = encode(piece, form, scheme)
            file.write(encoded.tobytes())
            total += loss
            progress(piece.size)
    return total


def encode(piece: Floats, form: RowFormat, scheme: Scheme) -> tuple[NDArray[np.uint8], Loss]:
    """Values (n, layers · dim) to rows (n, row_bytes)."""
    count = len(piece)
    out = np.zeros((count, form.row_bytes), np.uint8)
    body = form.layers * form.layer_bytes
    if scheme.is_float:
        values = piece.astype(ml_dtypes.bfloat16) if form.bits == 16 else piece
        out[:, :body] = values.view(np.uint8).reshape(count, body)
        return out, Loss()
    made, loss = quantize(piece.reshape(-1, form.dim), scheme)
    out[:, :body] = made.packed.reshape(count, body)
    scales = made.scales.astype(ml_dtypes.bfloat16).view(np.uint8).reshape(count, -1)
    out[:, body : body + scales.shape[1]] = scales
    return out, loss


def work(config: GemmaConfig) -> int:
    """Values to write, for progress."""
    return sum(config.vocab * rows.layers * rows.dim for rows in row_tables(config))
