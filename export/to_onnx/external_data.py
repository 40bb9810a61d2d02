"""Initializers of an ONNX graph in one file beside it, written in a stream."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.helper import np_dtype_to_tensor_dtype

PAGE = 4096  # large tensors begin on a page, so that they can be mapped
SMALL_ALIGNMENT = 64


class ExternalData:
    """A context manager; `add` appends a tensor, `tensors` are the graph's initializers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tensors: list[TensorProto] = []
        self._file = path.open("wb")

    def __enter__(self) -> ExternalData:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, name: str, shape: tuple[int, ...], dtype: type, pieces: Iterable[NDArray[np.generic]]) -> str:
        """A tensor of `shape` from pieces along its first dimension."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._align(PAGE if size >= PAGE else SMALL_ALIGNMENT)
        offset, written = self._file.tell(), 0
        for piece in pieces:
            raw: NDArray[np.generic] = np.ascontiguousarray(piece, dtype)
            self._file.write(raw.data)
            written += raw.nbytes
        if written != size:
            raise RuntimeError(f"{name}: {written} bytes for shape {shape}")
        tensor = TensorProto(name=name, data_type=np_dtype_to_tensor_dtype(np.dtype(dtype)), dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self.path.name), ("offset", str(offset)), ("length", str(size))):
            tensor.external_data.add(key=key, value=value)
        self.tensors.append(tensor)
        return name

    def _align(self, to: int) -> None:
        self._file.write(b"\0" * (-self._file.tell() % to))
