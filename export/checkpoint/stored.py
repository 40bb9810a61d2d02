"""Tensors of safetensors files, read a few rows at a time.

Values are read, not mapped: pages of a mapping stay resident, and a table of E2B has 4.7 GB.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from runtime.errors import GemmaError

from ..model.arrays import Floats, Shape

DTYPES = {"BF16": np.dtype(ml_dtypes.bfloat16), "F16": np.dtype(np.float16), "F32": np.dtype(np.float32)}
DTYPES["F64"] = np.dtype(np.float64)
INTEGERS = {"U8": np.dtype(np.uint8), "I8": np.dtype(np.int8)}


class TensorEntry(Protocol):
    """A tensor of a checkpoint, wherever its values come from."""

    @property
    def source_name(self) -> str: ...
    @property
    def shape(self) -> Shape: ...
    @property
    def dtype(self) -> str: ...
    @property
    def origin(self) -> str:
        """Return where the tensor is, for messages."""
        ...

    def opened(self) -> AbstractContextManager[Any]:
        """Something whose slices are rows."""
        ...


@dataclass(frozen=True)
class FileEntry:
    """Where a tensor is: its file, its released name, its dtype, and its first byte."""

    file: Path
    source_name: str
    shape: Shape
    dtype: str
    offset: int

    @property
    def origin(self) -> str:
        return f"{self.file}: {self.source_name}"

    @contextmanager
    def opened(self) -> Iterator[Any]:
        with self.file.open("rb") as file:
            yield OpenTensor(file, self)


@dataclass(frozen=True)
class OpenTensor:
    """A tensor in an open file; a slice reads its rows."""

    file: BinaryIO
    entry: FileEntry

    def __getitem__(self, rows: slice) -> NDArray[np.generic]:
        entry, dtype = self.entry, (DTYPES | INTEGERS)[self.entry.dtype]
        first, last, _ = rows.indices(entry.shape[0] if entry.shape else 1)
        width = math.prod(entry.shape[1:])
        self.file.seek(entry.offset + first * width * dtype.itemsize)
        values: NDArray[np.generic] = np.fromfile(self.file, dtype, (last - first) * width)
        if values.size != (last - first) * width:
            raise GemmaError(f"{entry.origin}: the file was cut short", "download the file again")
        return values.reshape(last - first, *entry.shape[1:])


def check_sound(file: Path) -> None:
    """Raises GemmaError for a header that lies or a file cut short; what it says can be trusted after."""
    try:
        with safe_open(file, "np"):
            return
    except (SafetensorError, OSError) as error:
        raise GemmaError(f"{file} is not a valid safetensors file: {error}", "download the file again") from error


def entries_of(file: Path) -> Iterator[tuple[str, FileEntry]]:
    check_sound(file)
    with file.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
        header = json.loads(raw.read(length))
    for source_name, described in header.items():
        if source_name != "__metadata__":
            offset = 8 + length + described["data_offsets"][0]
            yield source_name, FileEntry(file, source_name, tuple(described["shape"]), described["dtype"], offset)


def as_torch(array: NDArray[Any]) -> Tensor:
    """The same memory: torch does not take numpy's bfloat16."""
    if array.dtype != DTYPES["BF16"]:
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)


def widened(array: NDArray[Any]) -> Floats:
    """Convert to float32; torch takes a quarter of numpy's time for bfloat16."""
    values: Floats = as_torch(array).float().numpy()
    return values
