"""What a calibration has done so far, beside the bundle: a killed export goes on from its last layer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from runtime.atomically import atomically
from runtime.errors import GateMissed

if TYPE_CHECKING:
    from quantize.affine import Loss


class CalibrationKey(msgspec.Struct, frozen=True):
    """What the work depends on; work of another key is thrown away."""

    tool: str
    files: list[tuple[str, int, int]]  # of the checkpoint: name, bytes, nanoseconds of the last change
    recipe: str
    text: str
    seed: int


class CalibrationState(msgspec.Struct, frozen=True):
    """What is done.  layers: how many are finished; losses: the fields of a Loss, by scheme."""

    key: CalibrationKey
    layers: int = 0
    losses: dict[str, tuple[float, float, float]] = {}


class Store:
    """A folder beside the destination, with `state.json` written last and renamed."""

    def __init__(self, destination: Path, key: CalibrationKey) -> None:
        self.folder = folder_of(destination)
        self.units = self.folder / "units"
        self.state = CalibrationState(key)
        if self.folder.exists() and (state := self._read()) and state.key == key:
            self.state = state
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.units.mkdir(parents=True)
        self._write()

    def _read(self) -> CalibrationState | None:
        path = self.folder / "state.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=CalibrationState) if path.is_file() else None
        except msgspec.DecodeError:
            return None  # cut short by a crash: begin again

    def _write(self) -> None:
        with atomically(self.folder / "state.json") as part:
            part.write_bytes(msgspec.json.encode(self.state))

    @property
    def losses(self) -> dict[str, Loss]:
        from quantize.affine import Loss

        return {name: Loss(*parts) for name, parts in self.state.losses.items()}

    def save(self, name: str, array: np.ndarray) -> None:
        """Write an array, whole or not at all."""
        with atomically(self.folder / f"{name}.npy") as part, part.open("wb") as file:
            np.save(file, array)

    def has(self, name: str) -> bool:
        return (self.folder / f"{name}.npy").is_file()

    def load(self, name: str) -> np.ndarray:
        loaded: np.ndarray = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return loaded

    def finish(self, layers: int, losses: dict[str, Loss]) -> None:
        """One more layer is done: its integers and the hidden states after it are here."""
        parts = {name: (loss.squared_error, loss.squared_sum, loss.worst) for name, loss in losses.items()}
        self.state = msgspec.structs.replace(self.state, layers=layers, losses=parts)
        self._write()

    def drop(self, name: str) -> None:
        (self.folder / f"{name}.npy").unlink(missing_ok=True)


def folder_of(destination: Path) -> Path:
    return destination.with_name(f".{destination.name}.calibration")


@contextmanager
def stored(destination: Path, key: CalibrationKey | None, *, keep: bool = False) -> Iterator[Store | None]:
    """A store that is `removed` when the block ends; `keep`: only with an error."""
    store = Store(destination, key) if key else None
    with removed(store.folder if store else None, well=not keep):
        yield store


@contextmanager
def removed(folder: Path | None, *, well: bool = True) -> Iterator[None]:
    """Remove a store's folder when the block ends with an error, or `well`.

    An interrupt, a kill and a missed gate leave it.
    """
    try:
        yield
    except GateMissed:  # the same export with --accept-loss goes on from here
        raise
    except Exception:
        discard(folder)
        raise
    if well:
        discard(folder)


def discard(folder: Path | None) -> None:
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
