"""Integers and scales of an ExecuTorch artifact, and the ranges around them, from the bytes of the .pte file alone.

A .pte file is a FlatBuffers table (executorch's schema/program.fbs) and segments behind it.  Each delegate
of XNNPACK is a segment with a table of its own (backends/xnnpack/serialization/schema.fbs), which finds
constants by their keys; other keys of the same segments are the names that the exporter gave.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantize.pack import unpack
from runtime.errors import GemmaError

from ..model.arrays import PIECE_ROWS, Bytes, Floats
from ..model.config import ActivationScales, GemmaConfig
from .containers import ENDS, HALF, PART_NAMES, PART_SEP, STATIC
from .flatbuffer import Broken, Table, number

Pieces = Iterator[tuple[int, Floats]]
# Numbers of fields and of kinds, as in the two schemas.
PLANS, SEGMENTS, NAMED, DELEGATES, PROCESSED = 1, 4, 7, 7, 1
CHAINS, OPERATORS, INSTRUCTIONS, KERNEL_CALL, DELEGATE_CALL = 5, 6, 2, 1, 2
DELEGATE = "XNNPACK"
NODES, VALUES, CONSTANTS = 1, 2, 8
ADD, FULLY_CONNECTED, CONVERT, CONCATENATE = 1, 2, 18, 32
QUANTIZED, BY_ROW, BY_TENSOR, BY_BLOCK = 2, 1, 2, 4
FLOAT32, FLOAT16 = 1, 2
INT8, INT8_ROW, INT4_ROW, INT4_BLOCK = 3, 6, 8, 10
IN_SEGMENT = 1


@dataclass(frozen=True)
class StoredMatrix:
    """A constant of a fully-connected node: bytes (rows, …), and its scales; no scales for floats of 32 or 16 bits."""

    data: Bytes
    rows: int
    inputs: int
    bits: int
    scales: Floats | None

    def codes(self, rows: slice) -> NDArray[np.int8]:
        """(n, inputs)."""
        return unpack(np.ascontiguousarray(self.data.reshape(self.rows, -1)[rows]), self.bits, self.inputs)

    def floats(self) -> Floats:
        kind = np.float32 if self.bits == 32 else np.float16
        return np.frombuffer(self.data, kind).reshape(self.rows, self.inputs).astype(np.float32)


def stored_weights(path: Path) -> Iterator[tuple[list[str], Pieces]]:
    """Read each matrix of integers: its parameter, and (first row, values (n, K)) piece by piece.

    Raises GemmaError for a file that is not sound, or a fully-connected node with integers of no name.
    """
    try:
        for name, parts in matrices(path).items():
            yield [name], values(path, name, parts)
    except (Broken, ValueError) as error:
        raise GemmaError(f"{path} is not a valid ExecuTorch file: {error}", "export the bundle again") from error


def values(path: Path, name: str, parts: dict[str, StoredMatrix]) -> Pieces:
    """Read what the parts of a matrix stand for: scale · (codes + offset)."""
    whole = parts.get("codes") or parts.get(STATIC) or parts.get("low")
    if whole is None or whole.scales is None or ("high" in parts) != ("low" in parts):
        raise Broken(f"{name} is not whole")
    for start in range(0, whole.rows, PIECE_ROWS):
        rows = slice(start, start + PIECE_ROWS)
        scales = whole.scales[rows]
        codes = whole.codes(rows).astype(np.float32)
        if "high" in parts:
            high = parts["high"]
            if high.scales is None or not np.array_equal(high.scales[rows], scales * np.float32(1 << HALF)):
                raise GemmaError(f"{path}: the two halves of {name} have different scales", "report this as a bug")
            codes += high.codes(rows).astype(np.float32) * (1 << HALF)
        if STATIC in parts:
            codes = without_ends(name, codes)
        blocks = codes.reshape(*scales.shape, -1)  # (n, G, width)
        if "offsets" in parts:
            blocks += offsets(path, name, parts["offsets"].floats()[rows], scales)[..., None]
        yield start, (blocks * scales[..., None]).reshape(codes.shape)


def without_ends(name: str, codes: Floats) -> Floats:
    """(n, K + 2) to (n, K).  Raises Broken where the ends of a range would count."""
    if codes[:, -ENDS:].any():
        raise Broken(f"{name}: the ends of its inputs' range are multiplied by something")
    return codes[:, :-ENDS]


def stored_ranges(path: Path, config: GemmaConfig) -> Iterator[tuple[str, ActivationScales]]:
    """Read the static scales that each linear of each method is rounded with, before and behind, by its label."""
    try:
        file = File(path)
        for graph in file.graphs():
            yield from XnnNeighbours(file, graph).linears()
    except (Broken, ValueError, KeyError, IndexError) as error:
        raise GemmaError(f"{path} is not a valid ExecuTorch file: {error}", "export the bundle again") from error


class XnnNeighbours:
    """Which node of a graph of XNNPACK's makes a value, and which read it, by its number."""

    def __init__(self, file: File, graph: Table) -> None:
        self.file, self.nodes, self.constants = file, list(graph.tables(NODES)), list(graph.tables(CONSTANTS))
        kinds = [(value.integer(0, "<B"), value.table(1)) for value in graph.tables(VALUES)]
        pairs = [(table.table(0), table) if kind == QUANTIZED else (table, None) for kind, table in kinds]
        self.values = {tensor.integer(6): (tensor, quantized) for tensor, quantized in pairs}
        self.makers = {self.ends(node)[1]: node for node in self.nodes}
        self.readers: dict[int, list[Table]] = {}
        for node in self.nodes:
            for value in self.ends(node)[0]:
                self.readers.setdefault(value, []).append(node)

    def linears(self) -> Iterator[tuple[str, ActivationScales]]:
        for node in self.nodes:
            if node.integer(0, "<B") != FULLY_CONNECTED:
                continue
            named = self.parameter(node.table(1).integer(1))
            if named:
                parameter, part = named
                yield parameter.removesuffix(".weight"), self.scales(node.table(1), static=part == STATIC)

    @staticmethod
    def ends(node: Table) -> tuple[list[int], int]:
        """Numbers of a node's inputs and output, as far as a linear's neighbours go."""
        fields = {ADD: ((0, 1), 2), FULLY_CONNECTED: ((0,), 3), CONVERT: ((0,), 1), CONCATENATE: ((1, 2), 5)}
        inputs, output = fields.get(node.integer(0, "<B"), ((), 0))
        table = node.table(1)
        return [table.integer(field) for field in inputs], table.integer(output) if inputs else -1

    def parameter(self, value: int) -> tuple[str, str] | None:
        """Name and part of a matrix of integers that is not the second half of one; None for others."""
        index = self.values[value][0].integer(3)
        key = self.file.keys.get(self.constants[index].text(2), -1) if index else -1
        for name in self.file.names.get(key, []):
            parameter, _, part = name.rpartition(PART_SEP)
            if part in ("codes", STATIC, "high"):
                return parameter, part
        return None

    def scales(self, linear: Table, *, static: bool) -> ActivationScales:
        source = linear.integer(0)
        maker = self.makers.get(source)
        if maker is not None and maker.integer(0, "<B") == CONVERT and self.step(source) == 0:
            source = maker.table(1).integer(0)  # what is rounded by row
            maker = self.makers.get(source)
        ends = None
        if static and maker is not None and maker.integer(0, "<B") == CONCATENATE:
            ends = self.floats(maker.table(1).integer(2))
            source = maker.table(1).integer(1)
        before = self.pair_before(source)
        if static and (ends is None or not np.array_equal(ends, np.float32(before) * ends_of_range(len(ends)))):
            before = 0.0
        return ActivationScales(before, self.pair_behind(linear.integer(3)))

    def pair_before(self, value: int) -> float:
        """The scale of a value that was made of int8 steps; 0 for another."""
        maker = self.makers.get(value)
        if maker is None or maker.integer(0, "<B") != CONVERT:
            return 0.0
        return self.step(maker.table(1).integer(0))

    def pair_behind(self, value: int) -> float:
        """The scale of the int8 steps that a value becomes, after its terms were added; 0 for one that does not."""
        readers = self.readers.get(value, [])
        kinds = [node.integer(0, "<B") for node in readers]
        if kinds == [ADD]:
            return self.pair_behind(self.ends(readers[0])[1])
        return self.step(self.ends(readers[0])[1]) if kinds == [CONVERT] else 0.0

    def step(self, value: int) -> float:
        tensor, quantized = self.values[value]
        if quantized is None or tensor.integer(0, "<h") != INT8 or quantized.integer(1, "<B") != BY_TENSOR:
            return 0.0
        how = quantized.table(2)
        where = how.field(0)
        return 0.0 if how.integer(1, "<i") or not where else float(number(how.data, where, "<f"))

    def floats(self, value: int) -> Floats:
        """A constant's values, flat; none for a value that is no constant."""
        tensor, _ = self.values[value]
        index = tensor.integer(3)
        size = 4 * prod(tensor.integers(2)) if index else 0
        return np.frombuffer(self.file.constant(self.constants[index].text(2), size), np.float32)


def ends_of_range(count: int) -> Floats:
    return np.resize(np.array([-128, 127], np.float32), count)


def offsets(path: Path, name: str, stored: Floats, scales: Floats) -> Floats:
    """Whole numbers (n, G).  Raises GemmaError if what is stored are not scales times such."""
    whole: Floats = np.rint(stored / scales)
    if not np.array_equal(whole * scales, stored):
        raise GemmaError(f"{path}: {name} has an offset that is not a multiple of its scale", "report this as a bug")
    return whole


def matrices(path: Path) -> dict[str, dict[str, StoredMatrix]]:
    """Parts of every named matrix that a fully-connected node of any method reads, by name."""
    file = File(path)
    by_name: dict[str, dict[str, StoredMatrix]] = {}
    for graph in file.graphs():
        for key, matrix in file.fully_connected(graph):
            names = file.names.get(file.keys.get(key, -1), [])
            if not names and matrix.scales is not None:
                raise GemmaError(f"{path}: a matrix of integers has no name", "export the bundle again")
            for name in names:
                parameter, _, part = name.rpartition(PART_SEP)
                by_name.setdefault(parameter, {})[part] = matrix
    return by_name


class File:
    """A mapped .pte file."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if bytes(self.data[4:12]) != b"ET12eh00":
            raise Broken("it does not begin as one")
        size, self.base = number(self.data, 16, "<Q"), number(self.data, 24, "<Q")
        self.program = Table.root(self.data[:size])
        self.segments = [(table.integer(0, "<Q"), table.integer(1, "<Q")) for table in self.program.tables(SEGMENTS)]
        self.keys = {table.text(0): table.integer(1) for table in self.program.tables(NAMED)}
        self.names: dict[int, list[str]] = {}  # that the exporter gave, by segment
        for key, index in self.keys.items():
            if key.rpartition(PART_SEP)[2] in PART_NAMES:
                self.names.setdefault(index, []).append(key)

    def segment(self, index: int) -> memoryview:
        if index >= len(self.segments):
            raise Broken(f"segment {index} of {len(self.segments)}")
        offset, size = self.segments[index]
        if self.base + offset + size > len(self.data):
            raise Broken(f"segment {index} does not end within the file")
        return self.data[self.base + offset : self.base + offset + size]

    def constant(self, key: str, size: int) -> memoryview:
        """`size` bytes under a key."""
        data = self.segment(self.keys.get(key, len(self.segments)))
        if len(data) < size:
            raise Broken(f"constant {key} has {len(data)} bytes of {size}")
        return data[:size]

    def graphs(self) -> Iterator[Table]:
        """The graph of every delegate of every method."""
        for plan in self.program.tables(PLANS):
            for delegate in plan.tables(DELEGATES):
                where = delegate.table(PROCESSED)
                if where.integer(0, "<b") != IN_SEGMENT:
                    raise Broken("a delegate is not in a segment")
                blob = self.segment(where.integer(1))
                if bytes(blob[4:8]) != b"XH00":
                    raise Broken("a delegate is not XNNPACK's")
                start, size = number(blob, 10, "<I"), number(blob, 14, "<I")
                if start + size > len(blob):
                    raise Broken("a delegate's graph does not end within it")
                yield Table.root(blob[start : start + size])

    def calls(self) -> Iterator[str]:
        """Method and operator of every instruction; DELEGATE for a graph of XNNPACK's."""
        for plan in self.program.tables(PLANS):
            operators = [table.text(0) for table in plan.tables(OPERATORS)]
            for chain in plan.tables(CHAINS):
                for call in chain.tables(INSTRUCTIONS):
                    kind = call.integer(0, "<B")
                    name = {KERNEL_CALL: "", DELEGATE_CALL: DELEGATE}.get(kind, f"instruction {kind}")
                    yield f"{plan.text(0)} {name or operators[call.table(1).integer(0)]}"

    def fully_connected(self, graph: Table) -> Iterator[tuple[str, StoredMatrix]]:
        """Key and matrix of each constant that a node multiplies with."""
        values, constants = list(graph.tables(VALUES)), list(graph.tables(CONSTANTS))
        kinds = [(value.integer(0, "<B"), value.table(1)) for value in values]
        tensors = [(table.table(0) if kind == QUANTIZED else table, table, kind) for kind, table in kinds]
        by_id = {tensor.integer(6): (tensor, table, kind) for tensor, table, kind in tensors}
        for node in graph.tables(NODES):
            if node.integer(0, "<B") != FULLY_CONNECTED:
                continue
            tensor, table, kind = by_id[node.table(1).integer(1)]
            index = tensor.integer(3)
            if index:
                key = self.key(constants, index)
                yield key, self.matrix(key, tensor, table if kind == QUANTIZED else None, constants)

    def key(self, constants: list[Table], index: int) -> str:
        if index >= len(constants):
            raise Broken(f"constant {index} of {len(constants)}")
        return constants[index].text(2)

    def matrix(self, key: str, tensor: Table, quantized: Table | None, constants: list[Table]) -> StoredMatrix:
        shape, kind = tensor.integers(2), tensor.integer(0, "<h")
        if len(shape) != 2:
            raise Broken(f"a matrix of {len(shape)} dimensions")
        rows, inputs = shape
        if quantized is None:
            width = {FLOAT32: 4, FLOAT16: 2}.get(kind, 0)
            data = np.frombuffer(self.constant(key, width * rows * inputs), np.uint8)
            return StoredMatrix(data, rows, inputs, 8 * width, None)
        bits = {INT8_ROW: 8, INT4_ROW: 4, INT4_BLOCK: 4}.get(kind)
        if bits is None:
            raise Broken(f"a matrix of kind {kind}")
        data = np.frombuffer(self.constant(key, rows * -(-inputs * bits // 8)), np.uint8)
        return StoredMatrix(data, rows, inputs, bits, self.scales(quantized, rows, inputs, constants))

    def scales(self, quantized: Table, rows: int, inputs: int, constants: list[Table]) -> Floats:
        """(rows, blocks) float32."""
        kind, how = quantized.integer(1, "<B"), quantized.table(2)
        if kind == BY_ROW:
            key = self.key(constants, how.integer(2))
            return np.frombuffer(self.constant(key, 4 * rows), np.float32).reshape(rows, 1)
        block = how.integer(2, "<i")
        if kind != BY_BLOCK or block < 1 or inputs % block:
            raise Broken(f"blocks of {block} in {inputs} inputs")
        key, count = self.key(constants, how.integer(4)), inputs // block
        halves = np.frombuffer(self.constant(key, 2 * rows * count), np.uint16)  # bfloat16
        return (halves.astype(np.uint32) << 16).view(np.float32).reshape(rows, count)
