"""The weight file: what is written is read back, by coremltools' own reader too, and damage is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from export.to_coreml.weight_bin import ALIGNMENT, WeightFile, WeightWriter, bytes_of, unpacked
from runtime.errors import GemmaError


@pytest.fixture
def written(tmp_path):
    """A file of three tensors, and where their records are."""
    path, rng = tmp_path / "weight.bin", np.random.default_rng(0)
    nibbles = rng.integers(0, 256, (6, 5), np.uint8)  # int4 (6, 10)
    scales = rng.standard_normal((6, 2)).astype(np.float16)
    quarters = rng.integers(0, 256, (3, 3), np.uint8)  # uint2 (3, 12)
    with WeightWriter(path) as writer:
        records = [
            writer.write("int4", (6, 10), [nibbles[:4], nibbles[4:]]),
            writer.write("float16", (6, 2), [scales]),
            writer.write("uint2", (3, 12), [quarters]),
        ]
    return path, records, (nibbles, scales, quarters)


def test_what_is_written_is_read_back(written):
    path, records, (nibbles, scales, quarters) = written
    file = WeightFile(path)
    assert file.read(records[0], "int4", (6, 10)).tobytes() == nibbles.tobytes()
    assert np.array_equal(unpacked(file.read(records[1], "float16", (6, 2)), "float16", (6, 2)), scales)
    assert file.read(records[2], "uint2", (3, 12)).tobytes() == quarters.tobytes()
    assert all(record % ALIGNMENT == 0 for record in records)


def test_four_bits_are_twos_complement_low_bits_first():
    found = unpacked(np.array([0x8F, 0x70], np.uint8), "int4", (1, 4))
    assert found.tolist() == [[-1, -8, 0, 7]]


def test_two_bits_are_low_bits_first():
    assert unpacked(np.array([0b11100100], np.uint8), "uint2", (4,)).tolist() == [0, 1, 2, 3]


def test_the_reader_of_coremltools_agrees(written):
    storage = pytest.importorskip("coremltools.libmilstoragepython", reason="no storage library in this coremltools")
    path, records, (nibbles, scales, _) = written
    reader = storage._BlobStorageReader(str(path))
    assert np.array_equal(np.array(reader.read_int4_data(records[0])).ravel(), unpacked(nibbles.ravel(), "int4", (60,)))
    assert np.array_equal(np.array(reader.read_fp16_data(records[1])).view(np.float16).ravel(), scales.ravel())


def test_a_tensor_of_another_size_is_not_written(tmp_path):
    with WeightWriter(tmp_path / "x") as writer, pytest.raises(ValueError, match="4 bytes for a tensor int8"):
        writer.write("int8", (5,), [np.zeros(4, np.int8)])


def damage(path: Path, at: int, what: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[at : at + len(what)] = what
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("at", "what", "message"),
    [
        (4, struct.pack("<I", 1), "has version 1"),
        (64, b"\0\0\0\0", "not a tensor int4"),
        (68, struct.pack("<I", 4), "not a tensor int4"),
        (72, struct.pack("<Q", 1 << 60), "not a tensor int4"),
        (80, struct.pack("<Q", 1 << 60), "ends at"),
    ],
)
def test_a_damaged_file_is_refused(written, at, what, message):
    path, records, _ = written
    damage(path, at, what)
    with pytest.raises(GemmaError, match=message):
        WeightFile(path).read(records[0], "int4", (6, 10))


def test_records_outside_the_file_are_refused(written):
    path, *_ = written
    file, end = WeightFile(path), path.stat().st_size
    for record in (0, 1, 65, end, end + 64, 1 << 62):
        with pytest.raises(GemmaError, match="has no record"):
            file.read(record, "int4", (6, 10))


def test_a_cut_file_is_refused(written):
    path, records, _ = written
    path.write_bytes(path.read_bytes()[: records[2] + ALIGNMENT])
    with pytest.raises(GemmaError, match="ends at"):
        WeightFile(path).read(records[2], "uint2", (3, 12))
    path.write_bytes(b"short")
    with pytest.raises(GemmaError, match="no header"):
        WeightFile(path)
    with pytest.raises(GemmaError, match="can not be read"):
        WeightFile(path.with_name("nowhere"))


def test_bytes_are_rounded_up():
    assert bytes_of("int4", (3,)) == 2
    assert bytes_of("uint2", (5,)) == 2
    assert bytes_of("float16", (3, 5)) == 30
