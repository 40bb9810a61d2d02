"""Row files, written byte by byte here and read by the runtime."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.row_table import HEADER, MAGIC, START, RowFormat, RowTable
from runtime.errors import GemmaError

ROWS, LAYERS, DIM = 11, 3, 64
FORMATS = {
    "int4, one scale a layer": RowFormat(ROWS, LAYERS, DIM, 4, 1),
    "int4, a scale per 32": RowFormat(ROWS, LAYERS, DIM, 4, 2),
    "int4, a shorter last group": RowFormat(ROWS, LAYERS, 70, 4, 3),
    "int2, one scale a layer": RowFormat(ROWS, LAYERS, DIM, 2, 1),
    "int2, float32 scales": RowFormat(ROWS, LAYERS, DIM, 2, 1, 32),
    "int4, float32 scales": RowFormat(ROWS, LAYERS, DIM, 4, 2, 32),
    "int8, one scale a layer": RowFormat(ROWS, LAYERS, DIM, 8, 1),
    "int8, a scale per 32": RowFormat(ROWS, LAYERS, DIM, 8, 2),
    "int8, a row that needs padding": RowFormat(ROWS, 1, 9, 8, 1),
    "bfloat16": RowFormat(ROWS, LAYERS, DIM, 16, 0),
    "float32": RowFormat(ROWS, LAYERS, DIM, 32, 0),
}


def bfloat16(values: np.ndarray) -> np.ndarray:
    """Cut to bfloat16, as float32."""
    return (values.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


def write(path: Path, form: RowFormat) -> np.ndarray:
    """A row file after FORMAT.md, and its values (rows, layers, dim)."""
    rng = np.random.default_rng(form.bits)
    shape = (form.rows, form.layers, form.dim)
    if form.bits >= 16:
        values = bfloat16(rng.standard_normal(shape)) if form.bits == 16 else rng.standard_normal(shape, np.float32)
        raw = (values.view(np.uint32) >> 16).astype("<u2") if form.bits == 16 else values.astype("<f4")
        bodies = [row.tobytes() for row in raw]
    else:
        half = 1 << (form.bits - 1)
        codes = rng.integers(-half, half, shape)
        scales = rng.uniform(-2, 2, (form.rows, form.layers, form.scales)).astype("<f4")
        if form.scale_bits == 16:
            scales = bfloat16(scales)
        width = -(-form.dim // form.scales)
        values = codes * np.repeat(scales, width, -1)[..., : form.dim]
        stored = [bytes(fields(row, form.bits)) for row in codes]
        raw = (scales.view(np.uint32) >> 16).astype("<u2") if form.scale_bits == 16 else scales
        bodies = [body + row.tobytes() for body, row in zip(stored, raw, strict=True)]
    size = -(-len(bodies[0]) // 4) * 4
    numbers = (2, form.rows, size, form.layers, form.dim, form.bits, form.scales, form.scale_bits, START)
    head = b"GEMROWS1" + struct.pack("<9I", *numbers)
    path.write_bytes(head.ljust(START, b"\0") + b"".join(body.ljust(size, b"\0") for body in bodies))
    return values.astype(np.float32)


def fields(row: np.ndarray, bits: int) -> list[int]:
    if bits == 8:
        return [int(code) & 255 for code in row.flat]
    flat, each = [int(code) + (1 << (bits - 1)) for code in row.flat], 8 // bits
    return [sum(code << (bits * i) for i, code in enumerate(flat[at : at + each])) for at in range(0, len(flat), each)]


@pytest.fixture(params=list(FORMATS.values()), ids=list(FORMATS))
def written(request, tmp_path):
    path = tmp_path / "some.rows"
    return path, request.param, write(path, request.param)


def test_rows_come_back_in_any_order(written):
    path, _, values = written
    ids = np.array([7, 0, ROWS - 1, 7])
    assert np.array_equal(RowTable(path).rows(ids), values[ids])


def test_a_slice_of_the_layers_is_that_of_the_whole(written):
    path, form, values = written
    ids = np.arange(ROWS)
    for cut in (slice(0, 1), slice(1, None), slice(1, 2), slice(form.layers, None)):
        assert np.array_equal(RowTable(path).rows(ids, cut), values[:, cut])


def test_values_are_multiplied(written):
    path, _, values = written
    found = RowTable(path, 3.7).rows(np.arange(ROWS))
    assert np.allclose(found, values * np.float32(3.7), rtol=1e-6, atol=0)


def test_header_is_the_one_that_is_read(written):
    path, form, _ = written
    assert path.read_bytes()[:START] == form.header()
    assert RowTable(path).format == form
    assert form.nbytes == path.stat().st_size
    assert form.row_bytes % 4 == 0


def test_no_ids_give_no_rows(written):
    path, form, _ = written
    assert RowTable(path).rows(np.array([], np.int64)).shape == (0, form.layers, form.dim)


@pytest.mark.parametrize("bad", [-1, ROWS, 1 << 40])
def test_an_id_outside_the_table_is_named(written, bad):
    path, _, _ = written
    table = RowTable(path)
    with pytest.raises(GemmaError, match=rf"token id {bad} is out of range: some.rows has {ROWS} rows"):
        table.rows(np.array([3, bad]))
    assert table.counters.rows == 0


def test_prefetch_ignores_ids_outside_the_table(written):
    path, _, values = written
    table = RowTable(path)
    table.prefetch(np.array([0, 5, 5, -1, ROWS]))
    assert np.array_equal(table.rows(np.array([5])), values[5:6])


def test_rows_and_bytes_are_counted(written):
    path, form, _ = written
    table = RowTable(path)
    table.rows(np.array([1, 2]))
    table.rows(np.array([1]), slice(0, 1))
    assert (table.counters.rows, table.counters.bytes) == (3, 3 * form.row_bytes)
    assert table.counters.faults >= 0


FIELDS = ["version", "rows", "row_bytes", "layers", "dim", "bits", "scales", "scale_bits", "start"]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [0, 5, 0xFFFFFFFF])
def test_a_header_that_lies_is_refused(tmp_path, field, value):
    path = tmp_path / "some.rows"
    write(path, FORMATS["int4, a scale per 32"])
    raw = bytearray(path.read_bytes())
    struct.pack_into("<I", raw, len(MAGIC) + 4 * FIELDS.index(field), value)
    path.write_bytes(raw)
    with pytest.raises(GemmaError, match=r"some\.rows has "):
        RowTable(path)


@pytest.mark.parametrize("size", [0, 7, HEADER.size - 1, HEADER.size, START, -1])
def test_a_file_cut_short_is_refused(tmp_path, size):
    path = tmp_path / "some.rows"
    write(path, FORMATS["bfloat16"])
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(GemmaError, match=r"not a row file|which is wrong for"):
        RowTable(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "some.rows"
    path.write_bytes(b"PK\3\4".ljust(2 * START, b"\0"))
    with pytest.raises(GemmaError, match="not a row file"):
        RowTable(path)


def test_a_later_version_asks_for_an_upgrade(tmp_path):
    path = tmp_path / "some.rows"
    write(path, FORMATS["bfloat16"])
    raw = bytearray(path.read_bytes())
    struct.pack_into("<I", raw, len(MAGIC), 3)
    path.write_bytes(raw)
    with pytest.raises(GemmaError, match="version 3") as refused:
        RowTable(path)
    assert "upgrade" in refused.value.hint


def test_a_file_cut_while_open_is_an_error_not_a_crash(tmp_path):
    path = tmp_path / "some.rows"
    write(path, FORMATS["bfloat16"])
    table = RowTable(path)
    with path.open("r+b") as file:
        file.truncate(START + 10)
    with pytest.raises(GemmaError, match="cut short while it was in use"):
        table.rows(np.array([0]))
