"""A Hugging Face checkpoint: a folder or a hub id, its tensors read one at a time, in pieces.

Values are read, not mapped: pages of a mapping stay resident, and a table of E2B has 4.7 GB.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
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

from .config import GemmaConfig, parse_config
from .tensors import Shape, known_unused, needed, our_name

Floats = NDArray[np.float32]
DTYPES = {"BF16": np.dtype(ml_dtypes.bfloat16), "F16": np.dtype(np.float16), "F32": np.dtype(np.float32)}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
SIDE_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
MOST_NAMED = 8  # tensors listed in one message


class Stored(Protocol):
    """A tensor of a checkpoint, wherever its values come from."""

    @property
    def released(self) -> str: ...
    @property
    def shape(self) -> Shape: ...
    @property
    def dtype(self) -> str: ...
    @property
    def origin(self) -> str:
        """For messages."""
        ...

    def opened(self) -> AbstractContextManager[Any]:
        """Something whose slices are rows."""
        ...


@dataclass(frozen=True)
class Entry:
    """Where a tensor is: its file, its released name, its dtype, and its first byte."""

    file: Path
    released: str
    shape: Shape
    dtype: str
    offset: int

    @property
    def origin(self) -> str:
        return f"{self.file}: {self.released}"

    @contextmanager
    def opened(self) -> Iterator[Any]:
        with self.file.open("rb") as file:
            yield Rows(file, self)


@dataclass(frozen=True)
class Rows:
    """A tensor in an open file; a slice reads its rows."""

    file: BinaryIO
    entry: Entry

    def __getitem__(self, rows: slice) -> NDArray[np.generic]:
        entry, dtype = self.entry, DTYPES[self.entry.dtype]
        first, last, _ = rows.indices(entry.shape[0])
        width = math.prod(entry.shape[1:])
        self.file.seek(entry.offset + first * width * dtype.itemsize)
        found: NDArray[np.generic] = np.fromfile(self.file, dtype, (last - first) * width)
        if found.size != (last - first) * width:
            raise GemmaError(f"{entry.origin}: the file was cut short", "download the file again")
        return found.reshape(last - first, *entry.shape[1:])


@dataclass(frozen=True)
class Checkpoint:
    folder: Path
    config: GemmaConfig
    entries: Mapping[str, Stored]  # by our name
    unused: tuple[str, ...]  # known and skipped, by released name

    @classmethod
    def open(cls, source: str | Path) -> Checkpoint:
        """Open and check a checkpoint; no tensor is read yet.

        Raises GemmaError if it is not there, not a supported Gemma, or if any tensor is missing,
        unexpected or misshapen (all are reported together).
        """
        folder = locate(source)
        config = parse_config(read_json(folder, "config.json"), str(folder))
        found = {name: entry for file in weight_files(folder) for name, entry in entries_of(file)}
        unused = tuple(sorted(name for name in found if known_unused(config, name)))
        entries = {our_name(name): entry for name, entry in found.items() if name not in unused}
        report_misfits(folder, entries, needed(config))
        return cls(folder, config, entries, unused)

    def read(self, name: str) -> Floats:
        """A tensor as float32; norm weights with their offset added.

        Raises GemmaError for NaN or Inf.
        """
        entry = self.entries[name]
        with entry.opened() as view:
            values = finite(widened(view[:]), entry.origin)
        return values + np.float32(self.config.norm_offset) if name.endswith("norm.weight") else values

    def read_rows(self, name: str, rows: range, step: int) -> Iterator[Floats]:
        """Some rows of a matrix, in pieces of up to `step` rows, float32."""
        entry = self.entries[name]
        with entry.opened() as view:
            for start in rows[::step]:
                yield finite(widened(view[start : min(start + step, rows.stop)]), entry.origin)

    def stored(self, name: str, rows: range) -> Tensor:
        """Some rows of a matrix in the dtype of the file, not checked for NaN."""
        entry = self.entries[name]
        with entry.opened() as view:
            return as_torch(view[rows.start : rows.stop])

    def gather(self, name: str, ids: NDArray[np.int64]) -> Floats:
        """The rows of a table at some ids, (n, width) float32."""
        entry = self.entries[name]
        unique, inverse = np.unique(ids, return_inverse=True)
        with entry.opened() as view:
            rows = np.concatenate([np.asarray(view[row : row + 1], np.float32) for row in unique.tolist()])
        return finite(rows, entry.origin)[inverse]

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(entry.shape)) for entry in self.entries.values())


def locate(source: str | Path) -> Path:
    """A folder as it is, a hub id downloaded (and resumed where it broke off)."""
    folder = Path(source)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise GemmaError(f"{source}: a file, not a folder", "give the folder that holds config.json")
    if not HUB_ID.fullmatch(str(source)) or str(source).startswith("."):
        raise GemmaError(
            f"{source}: no such folder", "give a checkpoint's folder, or a hub id such as google/gemma-4-E2B-it"
        )
    return download(str(source))


def download(hub_id: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError as error:
        raise GemmaError(
            f"{hub_id}: no such folder, and huggingface_hub is not installed", "pip install 'gemma-edge[hub]'"
        ) from error
    try:
        return Path(
            snapshot_download(hub_id, allow_patterns=[*SIDE_FILES, "*.safetensors", "*.safetensors.index.json"])
        )
    except Exception as error:  # the hub's, the network's and the system's errors have no common class
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise GemmaError(
            f"{hub_id}: no such folder, and the hub says: {reason}",
            "check the id and the network; a broken download goes on where it stopped",
        ) from error


def read_json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise GemmaError(f"{folder}: no {name}", "give a checkpoint's folder, as released on the hub")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise GemmaError(f"{path}: not JSON: {error}", "download the file again") from error
    if not isinstance(found, dict):
        raise GemmaError(f"{path}: a {type(found).__name__}, not an object", "download the file again")
    return found


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that an index names, or the one there is.  A pickle is never read."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        where = read_json(folder, index.name).get("weight_map")
        if not isinstance(where, dict) or not where:
            raise GemmaError(f"{index}: no weight_map", "download the file again")
        names = sorted({str(name) for name in where.values()})
    else:
        names = ["model.safetensors"]
    for name in names:
        if Path(name).name != name:
            raise GemmaError(f"{index}: {name!r} is not a file of the folder", "download the checkpoint again")
        if not (folder / name).is_file():
            pickles = ", ".join(sorted(path.name for path in folder.glob("*.bin")))
            hint = (
                f"{pickles} is a pickle and is never read; convert it to safetensors"
                if pickles
                else "download the checkpoint again"
            )
            raise GemmaError(f"{folder}: no {name}", hint)
    return [folder / name for name in names]


def check_sound(file: Path) -> None:
    """Raises GemmaError for a header that lies or a file cut short; what it says can be trusted after."""
    try:
        with safe_open(file, "np"):
            return
    except (SafetensorError, OSError) as error:
        raise GemmaError(f"{file}: not a sound safetensors file: {error}", "download the file again") from error


def entries_of(file: Path) -> Iterator[tuple[str, Entry]]:
    check_sound(file)
    with file.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
        header = json.loads(raw.read(length))
    for released, found in header.items():
        if released != "__metadata__":
            offset = 8 + length + found["data_offsets"][0]
            yield released, Entry(file, released, tuple(found["shape"]), found["dtype"], offset)


def report_misfits(folder: Path, entries: Mapping[str, Stored], shapes: dict[str, Shape]) -> None:
    """Raises GemmaError with all missing, unexpected and misshapen tensors, and dtypes that are not floats."""
    groups = {
        "missing": [name for name in shapes if name not in entries],
        "unexpected": [entry.released for name, entry in entries.items() if name not in shapes],
        "misshapen": [
            f"{name} {list(entries[name].shape)} instead of {list(shape)}"
            for name, shape in shapes.items()
            if name in entries and entries[name].shape != shape
        ],
        "of an unsupported dtype": [
            f"{name} {entry.dtype}" for name, entry in entries.items() if name in shapes and entry.dtype not in DTYPES
        ],
    }
    lines = [f"{len(names)} {what}: {listed(names)}" for what, names in groups.items() if names]
    if lines:
        raise GemmaError(
            f"{folder}: the tensors do not fit config.json; " + "; ".join(lines),
            "check that config.json belongs to these weights",
        )


def listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def as_torch(array: NDArray[Any]) -> Tensor:
    """The same memory: torch does not take numpy's bfloat16."""
    if array.dtype != DTYPES["BF16"]:
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)


def widened(array: NDArray[Any]) -> Floats:
    """As float32; by torch, which takes a quarter of numpy's time for bfloat16."""
    values: Floats = as_torch(array).float().numpy()
    return values


def finite(values: Floats, name: str) -> Floats:
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise GemmaError(f"{name}: {count} values are NaN or Inf", "the checkpoint is damaged; download it again")
    return values
