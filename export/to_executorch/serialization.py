"""All that the exporter uses of ExecuTorch's private interface, which is why the package is pinned below 1.6."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from executorch.backends.xnnpack.serialization.xnnpack_graph_schema import XNNGraph
from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import serialize_xnnpack_binary
from executorch.exir._serialize._cord import FileBackedData
from executorch.exir._serialize._named_data_store import NamedDataStoreOutput
from executorch.exir._serialize._program import PTEFile, serialize_pte_binary
from executorch.exir._serialize.data_serializer import DataEntry
from executorch.exir.schema import Program
from torch.utils._pytree import tree_structure, treespec_dumps

Data: TypeAlias = bytes | FileBackedData  # of a constant


def file_data(path: Path) -> Data:
    """The bytes of a file, which are read when the program is written."""
    data: Data = FileBackedData(str(path))
    return data


def xnnpack_bytes(graph: XNNGraph) -> bytes:
    """A graph as XNNPACK's delegate reads it."""
    serialized: bytes = serialize_xnnpack_binary(graph, bytearray())
    return serialized


def write_pte(program: Program, constants: Mapping[str, Data], alignment: int, path: Path) -> None:
    """A program and its named constants as a .pte file; each delegate's bytes become a segment."""
    entries = {name: DataEntry(index, alignment, None) for index, name in enumerate(constants)}
    file = PTEFile(program, named_data=NamedDataStoreOutput(list(constants.values()), entries, {}))
    with path.open("wb") as stream:
        serialize_pte_binary(file, extract_delegate_segments=True).write_to_file(stream)


def tree_text(inputs: int, outputs: int) -> tuple[str, str]:
    """How a method's inputs and outputs are nested: not at all, and no input has a keyword."""
    return treespec_dumps(tree_structure(((0,) * inputs, {}))), treespec_dumps(tree_structure((0,) * outputs))
