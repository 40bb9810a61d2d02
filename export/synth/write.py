"""A checkpoint folder of random values, in the layout, names, shapes and dtypes of a release."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from runtime.bundle.bundle import put_in_place
from runtime.errors import GemmaError

from ..checkpoint.checkpoint import GENERATED, Checkpoint
from ..model.config import GemmaConfig, parse_config
from .generated import Block, GeneratedEntry, spread_of
from .shapes import RELEASED, NamedShape, released_tensors
from .tokenizer import synth_tokenizer

SPARE = 64 << 20  # bytes for what is not weights
ALIGNED = 8  # a safetensors header ends on a multiple of this


@dataclass(frozen=True)
class Shard:
    """One safetensors file: its tensors in order."""

    name: str
    tensors: tuple[GeneratedEntry, ...]

    @property
    def header(self) -> bytes:
        """Length and JSON, as the safetensors library writes them."""
        integers = any(tensor.bits for tensor in self.tensors)  # then the releases have no metadata
        described: dict[str, object] = {} if integers else {"__metadata__": {"format": "pt"}}
        at = 0
        for tensor in self.tensors:
            end = at + tensor.nbytes
            described[tensor.source_name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, end]}
            at = end
        raw = json.dumps(described, separators=(",", ":")).encode()
        raw += b" " * (-len(raw) % ALIGNED)
        return len(raw).to_bytes(8, "little") + raw

    @property
    def size(self) -> int:
        return len(self.header) + sum(tensor.nbytes for tensor in self.tensors)


def generated_entries(shape: NamedShape, seed: int) -> dict[str, GeneratedEntry]:
    """Every tensor of the release, by its released name."""
    raw, block = shape.config(), Block(seed)
    config = parse_config(raw, shape.name)
    return {
        name: GeneratedEntry(
            name, tensor.shape, spread_of(config, name, tensor, block), block, tensor.dtype, tensor.bits
        )
        for name, tensor in released_tensors(raw, shape.name).items()
    }


def generated_checkpoint(shape: NamedShape, seed: int, folder: Path) -> Checkpoint:
    """A checkpoint whose weights are made when they are read; its other files are written to `folder`."""
    write_side_files(shape, seed, folder)
    return Checkpoint.of(folder, shape.config(), generated_entries(shape, seed))


def shards(shape: NamedShape, seed: int) -> list[Shard]:
    """The files of the release: as many tensors in a file as fit."""
    files: list[list[GeneratedEntry]] = [[]]
    room = shape.file_bytes
    for tensor in generated_entries(shape, seed).values():
        if tensor.nbytes > room and files[-1]:
            files.append([])
            room = shape.file_bytes
        files[-1].append(tensor)
        room -= tensor.nbytes
    if len(files) == 1:
        return [Shard("model.safetensors", tuple(files[0]))]
    names = [f"model-{i + 1:05}-of-{len(files):05}.safetensors" for i in range(len(files))]
    return [Shard(name, tuple(tensors)) for name, tensors in zip(names, files, strict=True)]


def synthesize(
    shape: NamedShape,
    destination: Path,
    seed: int,
    *,
    replace: bool,
    progress: Callable[[float], None] = lambda done: None,
) -> None:
    """Write a folder; progress counts bytes.

    Raises GemmaError if the destination is taken or the disk is too small; then nothing is left behind.
    """
    check_place(destination, replace=replace)
    files = shards(shape, seed)
    check_space(destination, sum(shard.size for shard in files) + SPARE)
    with beside(destination) as folder:
        for shard in files:
            with (folder / shard.name).open("wb") as file:
                write_shard(shard, file, progress)
        if len(files) > 1:
            (folder / "model.safetensors.index.json").write_text(json.dumps(index(files), indent=2) + "\n")
        write_side_files(shape, seed, folder)


def write_shard(shard: Shard, file: BinaryIO, progress: Callable[[float], None]) -> None:
    file.write(shard.header)
    for tensor in shard.tensors:
        with tensor.opened() as rows:
            for piece in rows.pieces(0, math.prod(tensor.shape)):
                file.write(piece.view(np.uint8).data)
                progress(piece.nbytes)


def index(files: list[Shard]) -> dict[str, Mapping[str, object]]:
    where = {tensor.source_name: shard.name for shard in files for tensor in shard.tensors}
    size = sum(tensor.nbytes for shard in files for tensor in shard.tensors)
    return {"metadata": {"total_size": size}, "weight_map": dict(sorted(where.items()))}


def write_side_files(shape: NamedShape, seed: int, folder: Path) -> None:
    (folder / GENERATED).write_text(
        f"Random values in the shape of {shape.name}, seed {seed}, by `gemma-edge synth`: trained on nothing.\n"
        "The tokenizer has the released vocabulary's size, and has learned from no text.\n"
    )
    raw = shape.config()
    config: GemmaConfig = parse_config(raw, shape.name)
    (folder / "config.json").write_bytes(shape.config_bytes())
    shutil.copyfile(RELEASED / "generation_config.json", folder / "generation_config.json")
    synth_tokenizer(config.vocab).save(str(folder / "tokenizer.json"), pretty=False)
    if config.family == "gemma4":
        shutil.copyfile(RELEASED / "chat_template.jinja", folder / "chat_template.jinja")
    named = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(named, indent=2) + "\n")


def check_place(destination: Path, *, replace: bool) -> None:
    """Raises GemmaError if there is something that may not be replaced: a download costs more than this."""
    if not (destination.exists() or destination.is_symlink()):
        return
    if not replace:
        raise GemmaError(f"{destination} already exists", "choose another folder, or pass replace=True")
    if destination.is_symlink() or not (destination / GENERATED).is_file():
        raise GemmaError(
            f"{destination} already exists and is not a generated checkpoint",
            f"replace=True replaces only folders that hold {GENERATED}",
        )


def check_space(destination: Path, needed: int) -> None:
    parent = next(folder for folder in destination.absolute().parents if folder.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise GemmaError(
            f"{destination} needs {needed / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free", "choose another disk"
        )


@contextmanager
def beside(destination: Path) -> Iterator[Path]:
    """A folder that takes the name `destination` only if the block ends well."""
    folder = destination.with_name(f".{destination.name}.part")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
        put_in_place(folder, destination)
    except OSError as error:
        raise GemmaError(f"{destination}: {error.strerror or error}", "choose another folder") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
