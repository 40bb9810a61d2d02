"""Tables of a FlatBuffers file, read with every offset checked: the file may be anybody's."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST_VECTOR = 1 << 24  # elements of a vector


class Broken(Exception):
    """An offset leads out of the file, or a vector is longer than it."""


@dataclass(frozen=True)
class Table:
    """The table at `at`; fields by their number in the schema.  A union is two: its kind, and its table."""

    data: memoryview
    at: int

    @classmethod
    def root(cls, data: memoryview) -> Table:
        return cls(data, number(data, 0, "<I"))

    def field(self, index: int) -> int:
        """Return where a field is, or 0."""
        vtable = self.at - number(self.data, self.at, "<i")
        if 4 + 2 * index >= number(self.data, vtable, "<H"):
            return 0
        offset = number(self.data, vtable + 4 + 2 * index, "<H")
        return self.at + offset if offset else 0

    def integer(self, index: int, form: str = "<I") -> int:
        """A scalar, 0 if it is left out."""
        where = self.field(index)
        return number(self.data, where, form) if where else 0

    def table(self, index: int) -> Table:
        where = self.field(index)
        if not where:
            raise Broken(f"a table has no field {index}")
        return Table(self.data, where + number(self.data, where, "<I"))

    def text(self, index: int) -> str:
        where, count = self.vector(index, 1)
        return bytes(self.data[where : where + count]).decode("utf-8", "replace")

    def integers(self, index: int) -> list[int]:
        where, count = self.vector(index, 4)
        return [number(self.data, where + 4 * i, "<I") for i in range(count)]

    def tables(self, index: int) -> Iterator[Table]:
        where, count = self.vector(index, 4)
        for at in range(where, where + 4 * count, 4):
            yield Table(self.data, at + number(self.data, at, "<I"))

    def vector(self, index: int, width: int) -> tuple[int, int]:
        """Return where the elements of a vector begin, and how many there are; none if it is left out."""
        where = self.field(index)
        if not where:
            return 0, 0
        where += number(self.data, where, "<I")
        count = number(self.data, where, "<I")
        if count > LONGEST_VECTOR or where + 4 + count * width > len(self.data):
            raise Broken(f"a vector of {count} elements does not end within the file")
        return where + 4, count


def number(data: memoryview, at: int, form: str) -> int:
    if not 0 <= at <= len(data) - struct.calcsize(form):
        raise Broken(f"offset {at} of {len(data)} bytes")
    value: int = struct.unpack_from(form, data, at)[0]
    return value
