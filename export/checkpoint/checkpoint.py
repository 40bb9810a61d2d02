"""A Hugging Face checkpoint: a folder or a hub id, its tensors read one at a time, in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quantize.affine import Quantized
from quantize.scheme import Scheme
from runtime.errors import GemmaError

from ..model.arrays import Floats, Shape
from ..model.config import GemmaConfig, parse_config
from ..model.tensors import HEAD, TABLE, is_linear, known_unused, needed, our_name
from ..read_json import read_json
from .locate import locate
from .own_head import own_head, with_named_head, with_table
from .packed import PackedEntry, activation_scales, cache_scales, join
from .quantized_elsewhere import bits_of
from .released_grid import GRID_SCHEME, PROBED, on_grid
from .stored import DTYPES, TensorEntry, as_torch, widened
from .weight_entries import weight_entries
from .weight_files import WHOLE, unread_index

GENERATED = "GENERATED.txt"  # of `synth`: the weights mean nothing
WRAPPED = {  # by the prefix that a wrapper gives to every name
    "_orig_mod.": "save the model that torch.compile wraps: model._orig_mod.save_pretrained(FOLDER)",
    "base_model.model.": "save the model that PEFT wraps: model.merge_and_unload().save_pretrained(FOLDER)",
    "module.": "save the model that DataParallel wraps: model.module.save_pretrained(FOLDER)",
}
MOST_NAMED = 8  # tensors listed in one message
CHECKED = 8192  # rows at a time


@dataclass(frozen=True)
class Checkpoint:
    folder: Path
    config: GemmaConfig
    entries: Mapping[str, TensorEntry]  # by our name
    unused: tuple[str, ...]  # known and skipped, by released name
    cache_scales: Mapping[str, float] = field(default_factory=dict)  # of a quantized release, by parameter
    head: TensorEntry | None = None  # as it is stored: of its own, or the token table once more
    notes: tuple[str, ...] = ()  # what a person should know of how the folder was read

    @classmethod
    def open(cls, source: str | Path) -> Checkpoint:
        """Open and check a checkpoint; of its tensors a stored head is read, to compare it with the token table.

        Raises GemmaError if it is not there, not a supported Gemma, or if any tensor is missing,
        unexpected or misshapen (all are reported together).
        """
        folder = locate(source)
        raw = read_json(folder, "config.json")
        checkpoint = cls.of(folder, raw, weight_entries(folder, raw))
        beside = (f"{WHOLE} is read, not the files of the index beside it",) if unread_index(folder, raw) else ()
        return replace(checkpoint, notes=beside + checkpoint.notes)

    @classmethod
    def of(cls, folder: Path, raw: Mapping[str, Any], tensors: Mapping[str, TensorEntry]) -> Checkpoint:
        """A checkpoint of a config.json and the tensors there are, by released name.  Raises GemmaError as `open`."""
        config = parse_config(raw, str(folder))
        bits, notes = bits_of(raw, tensors, str(folder))
        tensors, scales = with_named_head(tensors, config, str(folder)), {}
        if bits:
            used = {name: entry for name, entry in tensors.items() if not known_unused(config, name)}
            scales = cache_scales(used)
            config = replace(config, activation_scales=activation_scales(used, str(folder)))
            tensors = join(tensors, bits, needed(replace(config, own_head=True)), str(folder))
        tensors = with_table(tensors, raw, str(folder))
        config = replace(config, own_head=own_head(tensors))
        unused = tuple(sorted(name for name in tensors if known_unused(config, name)))
        entries = {our_name(name): entry for name, entry in tensors.items() if name not in unused}
        report_misfits(folder, entries, needed(config))
        return cls(folder, config, entries, unused, scales, tensors.get(HEAD), notes)

    @property
    def is_generated(self) -> bool:
        return (self.folder / GENERATED).is_file()

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

    def read_packed(self, name: str, rows: range, step: int) -> Iterator[Quantized]:
        """Some rows of a matrix that is released as integers, in pieces of up to `step` rows.

        Raises GemmaError for a scale that is zero, NaN or Inf.
        """
        entry = self.packed(name)
        assert entry is not None  # callers have read the plan
        with entry.opened() as view:
            for start in rows[::step]:
                yield view.quantized(slice(start, min(start + step, rows.stop)))

    @property
    def is_packed(self) -> bool:
        return any(isinstance(entry, PackedEntry) for entry in self.entries.values())

    @property
    def released_as(self) -> Literal["packed", "on_grid", "float"]:
        """Integers and scales, floats that were made of 4-bit integers, or floats of their own."""
        if self.is_packed:
            return "packed"
        return "on_grid" if self.on_grid else "float"

    @property
    def of_integers(self) -> bool:
        """Whether it was trained for few bits, and released as the integers or with values that they explain."""
        return self.released_as != "float"

    @cached_property
    def released_schemes(self) -> dict[str, Scheme]:
        """The schemes of the matrices that were released as integers, or made of them, by our name."""
        packed = {name: entry.scheme for name, entry in self.entries.items() if isinstance(entry, PackedEntry)}
        return packed | {name: GRID_SCHEME for name in self.entries if name in self.on_grid}

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

    def _entry(self, name: str) -> TensorEntry:
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


def report_misfits(folder: Path, entries: Mapping[str, TensorEntry], shapes: dict[str, Shape]) -> None:
    """Raises GemmaError with all missing, unexpected and misshapen tensors, and dtypes that are not floats."""
    groups = {
        "missing": [name for name in shapes if name not in entries],
        "unexpected": [entry.source_name for name, entry in entries.items() if name not in shapes],
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
            f"{folder}: the tensors do not fit config.json; " + "; ".join(lines), cure(groups["unexpected"])
        )


def cure(unexpected: list[str]) -> str:
    """What to do, by what wraps the names that do not belong."""
    for prefix, step in WRAPPED.items():
        if any(name.startswith(prefix) for name in unexpected):
            return step
    return "check that config.json belongs to these weights"


def listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def finite(values: Floats, name: str) -> Floats:
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise GemmaError(f"{name}: {count} values are NaN or Inf", "the checkpoint is damaged; download it again")
    return values
