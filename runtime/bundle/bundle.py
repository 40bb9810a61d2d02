"""A bundle is a folder: opened and checked here, and written here.

Nothing in it is trusted: the manifest is guarded by `bundle.sha256`, every file is in the manifest
with its size and hash, and no name leaves the folder.  In the cache of the Hugging Face Hub files are
links to others that are called by their hashes: a link is followed to what the manifest describes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..errors import BundleError, GemmaError
from .manifest import MAJOR, File, Manifest, Version
from .parts import check_parts
from .written import written

MANIFEST, SEAL = "bundle.json", "bundle.sha256"
HASHED_AT_OPEN = 64 << 20  # larger files are mapped: their size is checked, `verify` hashes them
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
FETCH_AGAIN = "the copy may be incomplete or damaged; fetch or export the bundle again"

T = TypeVar("T")


@dataclass(frozen=True)
class Bundle:
    """A folder that was opened and checked, and what bundle.json says of it."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path, hashed_up_to: int = HASHED_AT_OPEN) -> Bundle:
        """Open a bundle and check it: manifest, names, sizes, and hashes of files of up to `hashed_up_to` bytes.

        Raises GemmaError if it is not a bundle, damaged, of a later format, or hostile.
        """
        if not (folder / MANIFEST).is_file():
            raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST}", not_a_bundle_hint(folder))
        bundle = cls(folder, read_manifest(folder))
        bundle.check_names()
        for name, entry in bundle.manifest.files.items():
            bundle.check_file(name, entry, hashed=entry.size <= hashed_up_to)
        return bundle

    def path(self, name: str) -> Path:
        """Return where a file of the bundle is.  Raises GemmaError for a name that the manifest does not list."""
        if name not in self.manifest.files:
            raise BundleError(f"{self.folder / MANIFEST}: {name!r} is used but not listed in files", FETCH_AGAIN)
        return self.folder / name

    def json(self, name: str, kind: type[T]) -> T:
        """Read a file of the bundle as JSON of a kind.  Raises GemmaError if it is not listed, or is something else."""
        return decode(self.path(name).read_bytes(), kind, self.path(name))

    def check_names(self) -> None:
        """Raise GemmaError for a name that leads out of the bundle, or that a field points to and no file has."""
        for name in self.manifest.files:
            if not NAME.fullmatch(name):
                raise BundleError(f"{self.folder / MANIFEST}: {name!r} is not a name inside the bundle", FETCH_AGAIN)
        for name in self.manifest.used():
            self.path(name)
        check_parts(self.manifest, str(self.folder / MANIFEST))

    def check_file(self, name: str, entry: File, *, hashed: bool) -> None:
        """Raise GemmaError unless a file is there, inside the folder, of its size and, if `hashed`, of its hash."""
        path = self.folder / name
        if not path.is_file():
            raise BundleError(f"{path}: missing", FETCH_AGAIN)
        if not path.parent.resolve().is_relative_to(self.folder.resolve()):
            raise BundleError(f"{path}: a link leads out of the bundle", "replace the link by a real folder")
        if path.is_symlink() and path.resolve().name != entry.sha256:
            hashed = True  # the hub's cache names a file by its hash; of any other only the contents tell
        size = path.stat().st_size
        if size != entry.size:
            raise BundleError(f"{path} has {size} bytes, but the manifest says {entry.size}", FETCH_AGAIN)
        if hashed and (digest := sha256(path)) != entry.sha256:
            raise BundleError(
                f"{path} has the SHA-256 {digest[:16]}…, but the manifest says {entry.sha256[:16]}…", FETCH_AGAIN
            )

    def check_hashes(self, progress: Callable[[str, int], None] = lambda name, size: None) -> None:
        """Hash every file; `progress` gets the name and size of each.  Raises GemmaError at the first that differs."""
        for name, entry in self.manifest.files.items():
            self.check_file(name, entry, hashed=True)
            progress(name, entry.size)


def not_a_bundle_hint(folder: Path) -> str:
    """Return the next step for one who took something else for a bundle."""
    if not folder.exists():
        return "check the path; `gemma-edge export` makes a bundle of a checkpoint"
    if (folder / "config.json").is_file():
        return "this looks like a checkpoint; make a bundle of it with `gemma-edge export`"
    return "give the folder that `gemma-edge export` wrote"


def read_manifest(folder: Path) -> Manifest:
    """Read bundle.json.  Raises GemmaError unless the seal holds, the version is known, and the fields are right."""
    path, seal = folder / MANIFEST, folder / SEAL
    raw = path.read_bytes()
    known = decode(raw, Version, path)
    if known.format == "gemma-edge" and known.version and known.version[0] > MAJOR:
        version = ".".join(map(str, known.version))
        raise BundleError(f"{path} has the format {version}, but this gemma-edge reads {MAJOR}.x", "upgrade gemma-edge")
    if not seal.is_file() or seal.read_bytes() != seal_of(raw):
        raise BundleError(f"{path}: does not match {SEAL}", FETCH_AGAIN)
    manifest = decode(raw, Manifest, path)
    check_said_once(raw, path)
    return manifest


def decode(raw: bytes, kind: type[T], path: Path) -> T:
    """Read JSON of a kind.  Raises GemmaError, with the path of the field that is missing or of another type."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path}: {error}", FETCH_AGAIN) from error


def check_said_once(raw: bytes, path: Path) -> None:
    """Raise GemmaError for an object with a name twice, of which one reader would take this one and another that."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        name, times = max(Counter(name for name, _ in pairs).items(), key=lambda item: item[1], default=("", 0))
        if times > 1:
            raise BundleError(f"{path}: {name!r:.80} is said twice in one object", FETCH_AGAIN)

    try:
        json.loads(raw, object_pairs_hook=check, parse_int=len)
    except (ValueError, RecursionError) as error:  # in a field that nobody asks for
        raise BundleError(f"{path}: {error}", FETCH_AGAIN) from error


def seal_of(manifest: bytes) -> bytes:
    """Return the line that `sha256sum -c` reads, for the bytes of a manifest."""
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()


def sha256(path: Path) -> str:
    """Return the hash of a file in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(folder: Path, *, hashed: bool = True) -> dict[str, File]:
    """Describe every file below a folder, by its name inside the bundle; unhashed while it is not sealed yet."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): File(size=path.stat().st_size, sha256=sha256(path) if hashed else "")
        for path in paths
    }


def seal(folder: Path, manifest: Manifest) -> None:
    """Write the manifest and its seal: the last act of an export."""
    raw = written(manifest)
    (folder / MANIFEST).write_bytes(raw)
    (folder / SEAL).write_bytes(seal_of(raw))


@dataclass(frozen=True)
class Workplace:
    """Where a bundle is made: `bundle` becomes the destination, `scratch` goes away."""

    bundle: Path
    scratch: Path


@contextmanager
def created(destination: Path, *, replace: bool) -> Iterator[Workplace]:
    """Give a place beside `destination`, whose bundle takes that name only if the block ends well.

    What an earlier, killed export left there is removed.  Raises GemmaError if the destination is
    taken, or if the disk refuses.
    """
    check_destination(destination, replace=replace)
    beside = destination.with_name(f".{destination.name}.part")
    place = Workplace(beside / "bundle", beside / "scratch")
    try:
        if beside.exists():
            shutil.rmtree(beside)
        place.bundle.mkdir(parents=True)
        place.scratch.mkdir()
        yield place
        put_in_place(place.bundle, destination)
    except OSError as error:
        at = f" ({error.filename})" if error.filename else ""
        raise GemmaError(
            f"{destination}: {error.strerror or error}{at}", "free some space, or choose another destination"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_destination(destination: Path, *, replace: bool) -> None:
    """Raise GemmaError if something is there that is not a bundle, or a bundle and not `replace`."""
    if not (destination.exists() or destination.is_symlink()):
        return
    if not replace:
        raise GemmaError(f"{destination} already exists", "choose another destination, or pass replace=True")
    if destination.is_symlink() or not (destination / MANIFEST).is_file():
        raise GemmaError(
            f"{destination} already exists and is not a bundle",
            "choose another destination; replace=True replaces only bundles",
        )


def put_in_place(beside: Path, destination: Path) -> None:
    """Rename, so that a reader sees the old bundle or the new one, never a part of either."""
    old = destination.with_name(f".{destination.name}.old")
    if destination.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(destination, old)
    os.rename(beside, destination)
    shutil.rmtree(old, ignore_errors=True)
