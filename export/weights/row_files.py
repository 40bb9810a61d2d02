"""Token and per-layer embeddings to row files that stay on flash, written in a stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from quantize.affine import Floats, Loss, quantize
from quantize.scheme import Scheme
from runtime.bundle.manifest import Table
from runtime.bundle.row_table import RowFormat
from runtime.errors import GemmaError

from ..checkpoint.checkpoint import Checkpoint
from .plan import ROWS, StoragePlan, StoredTensor

PIECE_BYTES = 32 << 20


def file_of(table: StoredTensor) -> str:
    """The row file's place in a bundle."""
    return f"tables/{label_of(table)}.rows"


def label_of(table: StoredTensor) -> str:
    """What a manifest calls a table."""
    return table.name.removeprefix(ROWS)


def row_format(checkpoint: Checkpoint, table: StoredTensor) -> RowFormat:
    """The layout of a row file.  Floats keep the checkpoint's bfloat16, so that a float bundle holds the same values.

    Raises GemmaError for blocks that a row file can not tell: it says how many, and divides evenly.
    """
    count, parts, dim, scheme = len(table.rows), table.parts, table.inputs, table.scheme
    if table.source == "packed":
        return RowFormat(count, parts, dim, scheme.bits, scheme.groups(dim), scale_bits=32)
    if table.source == "float":
        bits = 16 if checkpoint.entries[table.tensor].dtype == "BF16" else 32
        return RowFormat(count, parts, dim, bits, 0)
    form = RowFormat(count, parts, dim, scheme.bits, scheme.groups(dim))
    if form.width != scheme.width(dim):
        raise GemmaError(
            f"{table.name}: {dim} values cannot be divided into blocks of {scheme.block}", "choose another recipe"
        )
    return form


def write_row_files(
    checkpoint: Checkpoint, plan: StoragePlan, folder: Path, progress: Callable[[float], None] = lambda done: None
) -> tuple[dict[str, Table], dict[str, Loss]]:
    """Write the row files below `folder`; their entries for the manifest, and the loss by table."""
    (folder / "tables").mkdir()
    tables, losses = {}, {}
    for table in plan.tables:
        file = file_of(table)
        if table.source == "packed":
            write_packed(checkpoint, table, folder / file, progress)
        else:
            losses[table.name] = write_rows(checkpoint, table, folder / file, progress)
        tables[label_of(table)] = Table(file=file, multiplier=table.multiplier)
    return tables, losses


def write_rows(checkpoint: Checkpoint, table: StoredTensor, path: Path, progress: Callable[[float], None]) -> Loss:
    """Write rows that are rounded here, or stay floats; what that cost."""
    form, loss = row_format(checkpoint, table), Loss()
    step = max(1, PIECE_BYTES // (4 * table.parts * table.inputs))
    with path.open("wb") as file:
        file.write(form.header())
        for piece in checkpoint.read_rows(table.tensor, table.rows, step):
            encoded, piece_loss = encode(piece, form, table.scheme)
            file.write(encoded.tobytes())
            loss += piece_loss
            progress(piece.size)
    return loss


def write_packed(checkpoint: Checkpoint, table: StoredTensor, path: Path, progress: Callable[[float], None]) -> None:
    """Write integers and scales as they are released."""
    form = row_format(checkpoint, table)
    step = max(1, PIECE_BYTES // form.row_bytes)
    with path.open("wb") as file:
        file.write(form.header())
        for piece in checkpoint.read_packed(table.tensor, table.rows, step):
            scales = np.broadcast_to(piece.scales, (piece.rows, form.layers * form.scales))
            file.write(joined(piece.packed, scales.astype("<f4"), form).tobytes())
            progress(piece.rows * form.layers * form.dim)


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
    quantized, loss = quantize(piece.reshape(-1, form.dim), scheme)
    scales = quantized.scales.astype(ml_dtypes.bfloat16).reshape(count, -1)
    return joined(quantized.packed.reshape(count, -1), scales, form), loss
