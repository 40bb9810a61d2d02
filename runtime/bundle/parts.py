"""Graphs beside the decoder: what must hold of them in bundle.json, and what `inspect` says of them."""

from __future__ import annotations

from typing import Any

from ..errors import BundleError
from .manifest import Manifest, Part

HINT = "fetch or export the bundle again"


def check_parts(manifest: Manifest, source: str) -> None:
    """Check that each target runs a part in one way, and that a function is of a program that the bundle has.

    Raises GemmaError, which begins with `source`, for the first part of which this does not hold.
    """
    for name, part in manifest.parts.items():
        for target, functions in part.functions.items():
            names = [function.name for function in functions]
            if target not in manifest.artifacts:
                shown = ", ".join(names) or "none"
                raise BundleError(f"{source}: part {name!r} has functions ({shown}) of {target!r}, no artifact", HINT)
            if target in part.artifacts:
                raise BundleError(f"{source}: part {name!r} has an artifact and functions of {target!r}", HINT)
            if len(set(names)) < len(names):
                raise BundleError(f"{source}: part {name!r} names a function of {target!r} twice", HINT)


def part_bytes(manifest: Manifest, part: Part) -> int:
    """Return the bytes on disk of the files that are a part's own."""
    return sum(manifest.files[name].size for name in part.used())


def part_facts(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return, by name, a part's kind, its bytes, and where it runs; empty for a bundle without parts."""
    return {
        name: {"kind": part.kind, "bytes": part_bytes(manifest, part), "runs in": ", ".join(places(part))}
        for name, part in manifest.parts.items()
    }


def places(part: Part) -> list[str]:
    """Return the targets that run a part; with the function's name where it is in the decoder's program."""
    inside = [f"{target} ({function.name})" for target, functions in part.functions.items() for function in functions]
    return [*part.artifacts, *inside]
