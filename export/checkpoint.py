"""A Hugging Face checkpoint: a folder or a hub id, its tensors read one at a time, in pieces."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from runtime.errors import GemmaError

from .config import GemmaConfig, parse_config
from .own_head import own_head, with_named_head, with_table
from .packed_tensor import PackedEntry, activation_scales, cache_scales, join
from .released_bits import parse_bits
from .released_grid import PROBED, on_grid
from .stored_tensor import DTYPES, Stored, as_torch, entries_of, widened
from .tensors import HEAD, TABLE, Shape, is_linear, known_unused, needed, our_name

Floats = NDArray[np.float32]
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
SIDE_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
MOST_NAMED = 8  # tensors listed in one message
CHECKED = 8192  # rows at a time


@dataclass(frozen=True)
class Checkpoint:
    folder: Path
    config: GemmaConfig
    entries: Mapping[str, Stored]  # by our name
    unused: tuple[str, ...]  # known and skipped, by released name
    cache_scales: Mapping[str, float] = field(default_factory=dict)  # of a quantized release, by parameter
    head: Stored | None = None  # as it is stored: of its own, or the token table once more

    @classmethod
    def open(cls, source: str | Path) -> Checkpoint:
        """Open and check a checkpoint; of its tensors a stored head is read, to compare it with the token table.

        Raises GemmaError if it is not there, not a supported Gemma, or if any tensor is missing,
        unexpected or misshapen (all are reported together).
        """
        folder = locate(source)
        raw = read_json(folder, "config.json")
        found = {name: entry for file in weight_files(folder) for name, entry in entries_of(file)}
        return cls.of(folder, raw, found)

    @classmethod
    def of(cls, folder: Path, raw: Mapping[str, Any], found: Mapping[str, Stored]) -> Checkpoint:
        """Of a config.json and the tensors there are, by released name.  Raises GemmaError as `open`."""
        config, bits = parse_config(raw, str(folder)), parse_bits(raw)
        found, scales = with_named_head(found, config, str(folder)), {}
        if bits:
            used = {name: one for name, one in found.items() if not known_unused(config, name)}
            scales = cache_scales(used)
            config = replace(config, activation_scales=activation_scales(used, str(folder)))
            found = join(found, bits, needed(replace(config, own_head=True)), str(folder))
        found = with_table(found, raw, str(folder))
        config = replace(config, own_head=own_head(found))
        unused = tuple(sorted(name for name in found if known_unused(config, name)))
        entries = {our_name(name): entry for name, entry in found.items() if name not in unused}
        report_misfits(folder, entries, needed(config))
        return cls(folder, config, entries, unused, scales, found.get(HEAD))

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
        entry = self._entry(name)
        with entry.opened() as view:
            for start in rows[::step]:
                yield finite(widened(view[start : min(start + step, rows.stop)]), entry.origin)

    def packed(self, name: str) -> PackedEntry | None:
        """A tensor that is released as integers."""
        entry = self.entries[name]
        return entry if isinstance(entry, PackedEntry) else None

    @property
    def is_packed(self) -> bool:
        return any(isinstance(entry, PackedEntry) for entry in self.entries.values())

    @cached_property
    def on_grid(self) -> frozenset[str]:
        """Matrices of floats that were trained for Q4_0, by our name: all or none of the layers' linears."""
        if self.is_packed or not self._probe("layers.0.self_attn.q_proj.weight"):
            return frozenset()
        layers = {name for name, shape in needed(self.config).items() if len(shape) == 2 and is_linear(name)}
        return frozenset(layers | {name for name in (TABLE, HEAD) if name in self.entries and self._probe(name)})

    def _probe(self, name: str) -> bool:
        rows, width = self.entries[name].shape
        return on_grid(next(self.read_rows(name, range(min(rows, -(-PROBED // width))), rows)))

    def _entry(self, name: str) -> Stored:
        """The head's is there even where it is the token table once more, for who wants to read it by itself."""
        return self.head if name == HEAD and self.head else self.entries[name]

    def check_head(self) -> None:
        """Raises GemmaError for NaN or Inf in a head of its own, which is otherwise read after hours of work."""
        if self.config.own_head:
            for _ in self.read_rows(HEAD, range(self.config.vocab), CHECKED):
                pass

    def stored(self, name: str, rows: range) -> Tensor:
        """Some rows of a matrix in the dtype of the file, not checked for NaN."""
        entry = self._entry(name)
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


def finite(values: Floats, name: str) -> Floats:
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise GemmaError(f"{name}: {count} values are NaN or Inf", "the checkpoint is damaged; download it again")
    return values
