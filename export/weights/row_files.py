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
from runtime.bundle.manifest import Table
from runtime.bundle.row_table import RowFormat
from runtime.errors import GemmaError

from ..checkpoint.checkpoint import Checkpoint
from ..checkpoint.packed import PackedEntry
from ..model.config import GemmaConfig

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
    scheme, vocab = scheme_of(checkpoint, rows, recipe), checkpoint.config.vocab
    if released(checkpoint, rows, recipe):
        return RowFormat(vocab, rows.layers, rows.dim, scheme.bits, scheme.groups(rows.dim), scale_bits=32)
    if scheme.is_float:
        bits = 16 if checkpoint.entries[rows.tensor].dtype == "BF16" else 32
        return RowFormat(vocab, rows.layers, rows.dim, bits, 0)
    form = RowFormat(vocab, rows.layers, rows.dim, scheme.bits, scheme.groups(rows.dim))
    if form.width != scheme.width(rows.dim):
        raise GemmaError(
            f"rows.{rows.name}: {rows.dim} values do not divide into blocks of {scheme.block}", "choose another recipe"
        )
    return form


def released(checkpoint: Checkpoint, rows: Rows, recipe: Recipe) -> PackedEntry | None:
    """A table whose integers are taken as they are.

    Raises GemmaError for scales that go over parts of several layers: a row file has none such.
    """
    packed = checkpoint.packed(rows.tensor)
    if not (packed and recipe.released):
        return None
    scales = packed.scales.shape[1]
    if (scales > 1 and scales % rows.layers) or rows.dim * packed.bits % 8:
        raise GemmaError(
            f"{packed.scales.origin}: {scales} scales a row do not divide among {rows.layers} layers",
            "choose another recipe",
        )
    return packed


def scheme_of(checkpoint: Checkpoint, rows: Rows, recipe: Recipe) -> Scheme:
    """Of one layer's part of a row."""
    packed = released(checkpoint, rows, recipe)
    if packed is None:
        return recipe.scheme(f"rows.{rows.name}")
    groups = packed.scales.shape[1] // rows.layers  # 0: one for all layers
    return Scheme(packed.bits, rows.dim // groups if groups > 1 else 0)


def split_rows(
    checkpoint: Checkpoint, recipe: Recipe, folder: Path, progress: Callable[[float], None] = lambda done: None
) -> tuple[dict[str, Table], dict[str, Loss]]:
    """Write the row files below `folder`; their entries for the manifest, and the loss by table."""
    (folder / "tables").mkdir()
    tables, losses = {}, {}
    for rows in row_tables(checkpoint.config):
        form = row_format(checkpoint, rows, recipe)
        if packed := released(checkpoint, rows, recipe):
            write_packed(packed, form, folder / rows.file, progress)
        else:
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


def write_packed(packed: PackedEntry, form: RowFormat, path: Path, progress: Callable[[float], None]) -> None:
    """Integers and scales as they are released."""
    step = max(1, PIECE_BYTES // form.row_bytes)
    with path.open("wb") as file, packed.opened() as rows:
        file.write(form.header())
        for start in range(0, form.rows, step):
            piece = rows.quantized(slice(start, min(start + step, form.rows)))
            scales = np.broadcast_to(piece.scales, (len(piece.packed), form.layers * form.scales))
            file.write(joined(piece.packed, scales.astype("<f4"), form).tobytes())
            progress(len(piece.packed) * form.layers * form.dim)


def joined(codes: NDArray[np.uint8], scales: NDArray[np.generic], form: RowFormat) -> NDArray[np.uint8]:
    """Integers (n, layers · layer_bytes) and scales (n, layers · scales) as rows (n, row_bytes)."""
    out, body = np.zeros((len(codes), form.row_bytes), np.uint8), codes.shape[1]
    raw = np.ascontiguousarray(scales).view(np.uint8)
    out[:, :body], out[:, body : body + raw.shape[1]] = codes, raw
    return out


def encode(piece: Floats, form: RowFormat, scheme: Scheme) -> tuple[NDArray[np.uint8], Loss]:
    """Values (n, layers · dim) to rows (n, row_bytes)."""
    count = len(piece)
    if scheme.is_float:
        values = piece.astype(ml_dtypes.bfloat16) if form.bits == 16 else piece
        return joined(values.view(np.uint8).reshape(count, -1), np.empty((count, 0), np.uint8), form), Loss()
    made, loss = quantize(piece.reshape(-1, form.dim), scheme)
    scales = made.scales.astype(ml_dtypes.bfloat16).reshape(count, -1)
    return joined(made.packed.reshape(count, -1), scales, form), loss


def work(config: GemmaConfig) -> int:
    """Values to write, for progress."""
    return sum(config.vocab * rows.layers * rows.dim for rows in row_tables(config))
