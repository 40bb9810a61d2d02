"""A file that lies about its offsets is refused, not followed."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.to_executorch.flatbuffer import Broken, Table

# Root at 12: a vtable of 8 bytes at 4, then a table whose field 0 is 7 and field 1 a vector of two numbers.
SOUND = struct.pack("<IHHHHiIIIII", 12, 8, 12, 4, 8, 8, 7, 4, 2, 5, 6)


def walk(data: bytes) -> tuple[int, list[int]]:
    table = Table.root(memoryview(data))
    return table.integer(0), table.integers(1)


def test_a_table_is_read():
    assert walk(SOUND) == (7, [5, 6])
    assert Table.root(memoryview(SOUND)).integer(5) == 0
    assert list(Table.root(memoryview(SOUND)).tables(5)) == []


def test_a_vector_longer_than_the_file_is_refused():
    with pytest.raises(Broken, match="a vector of 3 elements"):
        walk(SOUND[:24] + struct.pack("<I", 3) + SOUND[28:])


def test_a_table_that_is_not_there_is_refused():
    with pytest.raises(Broken, match="no field 5"):
        Table.root(memoryview(SOUND)).table(5)


@given(st.integers(0, len(SOUND) - 1), st.integers(0, 255))
def test_no_changed_byte_leads_out_of_the_file(at, value):
    data = bytearray(SOUND)
    data[at] = value
    with contextlib.suppress(Broken):  # anything else fails
        walk(bytes(data))
